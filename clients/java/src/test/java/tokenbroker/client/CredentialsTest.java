package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.TlsServerCredentials.ClientAuth;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.UUID;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import okhttp3.tls.HeldCertificate;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tokenbroker.v1.GetTokenResponse;

/** Who calls, over real TLS: certificates from files that change. */
class CredentialsTest {
    /** Of a P-256 key in PKCS#8: what stands before the SEC1 within. */
    private static final int PKCS8_HEADER_BYTES = 28;

    @TempDir
    Path folder;

    private Path authorities;
    private Path certificate;
    private Path key;

    @BeforeEach
    void write() throws IOException {
        authorities = folder.resolve("ca.pem");
        certificate = folder.resolve("cert.pem");
        key = folder.resolve("key.pem");
        Files.writeString(authorities, Certificates.AUTHORITY.certificatePem());
        show(Certificates.issued("first").build());
    }

    /** The plain case: both know one another. */
    @Test
    void brokerAndCallerKnowOneAnother() throws IOException {
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE))) {
            assertEquals(1, generation(broker, Credentials.mutualTls(authorities, certificate, key)));
        }
    }

    /** A replica's certificate is for its own address, and not for the list of all. */
    @Test
    void eachAddressOfAListIsCheckedByItsOwnName() throws IOException {
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE));
                var client = Client.builder("ipv4:" + broker.target() + ",127.0.0.1:1")
                        .credentials(Credentials.mutualTls(authorities, certificate, key))
                        .build()) {
            assertEquals(1, get(client, "1000000"));
        }
    }

    /** Certificates live for hours, and connections as long as the broker lets them. */
    @Test
    void renewedCertificateIsShownAtTheNextCall() throws Exception {
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE));
                var client = openWithCertificate(broker)) {
            assertEquals("CN=first", peer(broker, client));
            show(Certificates.issued("second").build());
            assertEquals("CN=second", peer(broker, client));
        }
    }

    /** A certificate can be renewed for the key that is there. */
    @Test
    void certificateAloneCanBeRenewed() throws Exception {
        var pair = HeldCertificate.Companion.decode(Files.readString(certificate) + Files.readString(key));
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE));
                var client = openWithCertificate(broker)) {
            assertEquals("CN=first", peer(broker, client));
            var renewed = Certificates.issued("renewed").keyPair(pair.keyPair()).build();
            Files.writeString(certificate, renewed.certificatePem());
            assertEquals("CN=renewed", peer(broker, client));
        }
    }

    /** Two files are written one after the other: between, they don't fit. */
    @Test
    void pairThatDoesNotFitIsNotTaken() throws Exception {
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE));
                var client = openWithCertificate(broker)) {
            var second = Certificates.issued("second").build();
            Files.writeString(certificate, second.certificatePem());
            assertEquals("CN=first", peer(broker, client));
            Files.writeString(key, second.privateKeyPkcs8Pem());
            assertEquals("CN=second", peer(broker, client));
        }
    }

    /** Authorities are replaced, too, and who believes in none can call nobody. */
    @Test
    void brokenAuthoritiesAreNotTaken() throws Exception {
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE));
                var client = openWithCertificate(broker)) {
            Files.writeString(authorities, "nothing");
            assertEquals("CN=first", peer(broker, client));
            Files.writeString(authorities, Certificates.authority().certificatePem());
            assertThrows(CompletionException.class, () -> peer(broker, client));
        }
    }

    /** What is under way was begun with what was right then. */
    @Test
    void callUnderWayOutlivesARenewal() throws Exception {
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE));
                var client = openWithCertificate(broker)) {
            var held = new LinkedBlockingQueue<StreamObserver<GetTokenResponse>>();
            broker.answering = (request, answers) -> held.add(answers);
            var waits = client.token("held").toCompletableFuture();
            var observer = held.take();
            broker.answering = FakeBroker.answersWith(1, 3600);
            show(Certificates.issued("second").build());
            get(client, "another");
            observer.onNext(FakeBroker.token("held", 7, 3600));
            observer.onCompleted();
            assertEquals(7, waits.join().generation());
        }
    }

    /** cert-manager writes PKCS#1 unless told otherwise, which Java can't read by itself. */
    @Test
    void keyCanBeInPkcs1() throws IOException {
        var rsa = Certificates.issued("rsa").rsa2048().build();
        Files.writeString(certificate, rsa.certificatePem());
        Files.writeString(key, rsa.privateKeyPkcs1Pem());
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE))) {
            assertEquals(1, generation(broker, Credentials.mutualTls(authorities, certificate, key)));
        }
    }

    /** And SEC1 where the key is an EC key. */
    @Test
    void keyCanBeInSec1() throws IOException {
        var pkcs8 = Certificates.issued("ec").build();
        var encoded = pkcs8.keyPair().getPrivate().getEncoded();
        var sec1 = Arrays.copyOfRange(encoded, PKCS8_HEADER_BYTES, encoded.length);
        Files.writeString(certificate, pkcs8.certificatePem());
        Files.writeString(
                key,
                "-----BEGIN EC PRIVATE KEY-----\n" + Base64.getEncoder().encodeToString(sec1)
                        + "\n-----END EC PRIVATE KEY-----\n");
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.REQUIRE))) {
            assertEquals(1, generation(broker, Credentials.mutualTls(authorities, certificate, key)));
        }
    }

    /** Whoever starts with broken files should see it at the start. */
    @Test
    void brokenFilesAreRefusedAtOnce() throws IOException {
        Files.writeString(key, Certificates.issued("another").build().privateKeyPkcs8Pem());
        assertThrows(IllegalArgumentException.class, () -> Credentials.mutualTls(authorities, certificate, key));
    }

    private void show(HeldCertificate held) throws IOException {
        Files.writeString(certificate, held.certificatePem());
        Files.writeString(key, held.privateKeyPkcs8Pem());
    }

    private Client openWithCertificate(FakeBroker broker) {
        return open(broker, Credentials.mutualTls(authorities, certificate, key));
    }

    /** Whom the broker sees behind a new call. */
    private static String peer(FakeBroker broker, Client client) throws InterruptedException {
        get(client, UUID.randomUUID().toString());
        return broker.peers.take();
    }

    private static long generation(FakeBroker broker, Credentials credentials) {
        try (var client = open(broker, credentials)) {
            return get(client, "1000000");
        }
    }

    private static Client open(FakeBroker broker, Credentials credentials) {
        return Client.builder(broker.target()).credentials(credentials).build();
    }

    private static long get(Client client, String installId) {
        return client.token(installId).toCompletableFuture().join().generation();
    }
}
