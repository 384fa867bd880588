package tokenbroker.client;

import io.grpc.ServerCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.TlsServerCredentials.ClientAuth;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import okhttp3.tls.HeldCertificate;

/** An authority, and what it has certified. */
final class Certificates {
    static final HeldCertificate AUTHORITY = authority();

    private static final HeldCertificate BROKER = issued("broker").build();

    private Certificates() {}

    static HeldCertificate authority() {
        return new HeldCertificate.Builder()
                .certificateAuthority(0)
                .commonName("authority")
                .build();
    }

    static HeldCertificate.Builder issued(String name) {
        return new HeldCertificate.Builder()
                .signedBy(AUTHORITY)
                .commonName(name)
                .addSubjectAlternativeName("127.0.0.1");
    }

    /** A broker on 127.0.0.1 that asks callers for a certificate, or does not. */
    static ServerCredentials tls(ClientAuth clientAuth) throws IOException {
        return tls(BROKER, clientAuth);
    }

    static ServerCredentials tls(HeldCertificate broker, ClientAuth clientAuth) throws IOException {
        return TlsServerCredentials.newBuilder()
                .keyManager(stream(broker.certificatePem()), stream(broker.privateKeyPkcs8Pem()))
                .trustManager(stream(AUTHORITY.certificatePem()))
                .clientAuth(clientAuth)
                .build();
    }

    private static ByteArrayInputStream stream(String text) {
        return new ByteArrayInputStream(text.getBytes(StandardCharsets.US_ASCII));
    }
}
