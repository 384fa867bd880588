package tokenbroker.client;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.InvalidKeyException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.regex.Pattern;

/** Certificates and private keys of PEM files (RFC 7468). */
final class Pem {
    private static final Pattern KEY = Pattern.compile(
            "-----BEGIN ((?:RSA |EC )?)PRIVATE KEY-----([A-Za-z0-9+/=\\s]+)-----END \\1PRIVATE KEY-----");
    private static final byte SEQUENCE = 0x30;
    private static final byte OCTET_STRING = 0x04;
    private static final byte[] VERSION_ZERO = {0x02, 0x01, 0x00};
    private static final int LONG_FORM = 0x80;

    private Pem() {}

    /** All certificates of the file, at least one. */
    static X509Certificate[] certificates(Path file) throws IOException, GeneralSecurityException {
        var found = CertificateFactory.getInstance("X.509")
                .generateCertificates(new ByteArrayInputStream(Reloaded.bytesOf(file)))
                .toArray(X509Certificate[]::new);
        if (found.length == 0) {
            throw new CertificateException("no certificate");
        }
        return found;
    }

    /**
     * The private key of the file, which belongs to that public key. PKCS#8, or what cert-manager writes unless told
     * otherwise: PKCS#1 (RSA) or SEC1 (EC), which Java can't read by itself.
     */
    static PrivateKey privateKey(Path file, PublicKey publicKey) throws IOException, GeneralSecurityException {
        var match = KEY.matcher(new String(Reloaded.bytesOf(file), StandardCharsets.US_ASCII));
        if (!match.find()) {
            throw new InvalidKeyException("no private key in PEM without a passphrase");
        }
        var der = Base64.getMimeDecoder().decode(match.group(2));
        var pkcs8 = match.group(1).isEmpty() ? der : pkcs8(der, publicKey);
        return KeyFactory.getInstance(publicKey.getAlgorithm()).generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
    }

    /** The file itself. */
    static InputStream stream(Path file) throws IOException {
        return new ByteArrayInputStream(Reloaded.bytesOf(file));
    }

    /** The key in PKCS#8. */
    static InputStream stream(PrivateKey key) {
        var base64 = Base64.getMimeEncoder().encodeToString(key.getEncoded());
        var pem = "-----BEGIN PRIVATE KEY-----\n" + base64 + "\n-----END PRIVATE KEY-----\n";
        return new ByteArrayInputStream(pem.getBytes(StandardCharsets.US_ASCII));
    }

    /** RFC 5208: PrivateKeyInfo is a version, the algorithm, which the public key names too, and the older form. */
    private static byte[] pkcs8(byte[] olderForm, PublicKey publicKey) {
        return element(SEQUENCE, VERSION_ZERO, algorithmOf(publicKey.getEncoded()), element(OCTET_STRING, olderForm));
    }

    /** RFC 5280: SubjectPublicKeyInfo is a sequence, and its first member the AlgorithmIdentifier, a sequence, too. */
    private static byte[] algorithmOf(byte[] publicKeyInfo) {
        var start = contentAt(publicKeyInfo, 0);
        var content = contentAt(publicKeyInfo, start);
        // No AlgorithmIdentifier of a key is long enough for the long form of a length.
        return Arrays.copyOfRange(publicKeyInfo, start, content + publicKeyInfo[start + 1]);
    }

    private static int contentAt(byte[] der, int at) {
        var length = Byte.toUnsignedInt(der[at + 1]);
        return at + 2 + (length < LONG_FORM ? 0 : length - LONG_FORM);
    }

    private static byte[] element(byte tag, byte[]... members) {
        var content = new ByteArrayOutputStream();
        for (var member : members) {
            content.writeBytes(member);
        }
        var element = new ByteArrayOutputStream();
        element.write(tag);
        writeLength(element, content.size());
        element.writeBytes(content.toByteArray());
        return element.toByteArray();
    }

    private static void writeLength(ByteArrayOutputStream element, int length) {
        if (length < LONG_FORM) {
            element.write(length);
            return;
        }
        var bytes = (Integer.SIZE - Integer.numberOfLeadingZeros(length) + Byte.SIZE - 1) / Byte.SIZE;
        element.write(LONG_FORM | bytes);
        for (var shift = (bytes - 1) * Byte.SIZE; shift >= 0; shift -= Byte.SIZE) {
            element.write(length >>> shift);
        }
    }
}
