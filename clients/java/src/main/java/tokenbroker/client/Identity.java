package tokenbroker.client;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.InvalidKeyException;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;

/** A certificate chain and its private key, as PEM that gRPC reads. */
record Identity(InputStream chain, InputStream key) {
    private static final byte[] ANYTHING = {1};

    /** Reads the two files, which must fit together: between the writing of one and the other they don't. */
    static Identity read(Path certificate, Path key) throws IOException, GeneralSecurityException {
        var publicKey = Pem.certificates(certificate)[0].getPublicKey();
        var privateKey = Pem.privateKey(key, publicKey);
        requireFitting(privateKey, publicKey);
        return new Identity(Pem.stream(certificate), Pem.stream(privateKey));
    }

    private static void requireFitting(PrivateKey privateKey, PublicKey publicKey) throws GeneralSecurityException {
        var signature = Signature.getInstance(
                switch (privateKey.getAlgorithm()) {
                    case "RSA" -> "SHA256withRSA";
                    case "EC" -> "SHA256withECDSA";
                    default -> privateKey.getAlgorithm();
                });
        signature.initSign(privateKey);
        signature.update(ANYTHING);
        var signed = signature.sign();
        signature.initVerify(publicKey);
        signature.update(ANYTHING);
        if (!signature.verify(signed)) {
            throw new InvalidKeyException("the key does not fit the certificate");
        }
    }
}
