package tokenbroker.client;

import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.util.List;

/**
 * How the caller proves who it is, and knows the broker. Files are in PEM; they are read now, and again when they
 * change. A broken one is not taken, and the last good one stays.
 */
public final class Credentials {
    private final List<Path> files;
    private final Reloaded.Reader<ChannelCredentials> reader;
    private final boolean encrypted;
    private final Reloaded<ChannelCredentials> current;

    private Credentials(List<Path> files, Reloaded.Reader<ChannelCredentials> reader, boolean encrypted) {
        this.files = files;
        this.reader = reader;
        this.encrypted = encrypted;
        this.current = new Reloaded<>(files, reader);
    }

    /**
     * Mutual TLS.
     *
     * @param authorities whose certificates the broker may show
     * @param certificate the caller's own, with what stands between it and its authority
     * @param key its private key: PKCS#8, PKCS#1 or SEC1, without a passphrase
     * @throws IllegalArgumentException a file can't be read, or certificate and key don't fit together
     */
    public static Credentials mutualTls(Path authorities, Path certificate, Path key) {
        return new Credentials(
                List.of(authorities, certificate, key),
                () -> {
                    var identity = Identity.read(certificate, key);
                    return trusting(authorities)
                            .keyManager(identity.chain(), identity.key())
                            .build();
                },
                true);
    }

    /**
     * TLS alone: the broker proves who it is, the caller does not.
     *
     * @param authorities whose certificates the broker may show
     * @throws IllegalArgumentException the file can't be read
     */
    public static Credentials tls(Path authorities) {
        return new Credentials(List.of(authorities), () -> trusting(authorities).build(), true);
    }

    /**
     * TLS, and a bearer token from a file, such as Kubernetes' projected token.
     *
     * @param authorities whose certificates the broker may show
     * @param token the file; what it holds is sent with each call
     * @throws IllegalArgumentException a file can't be read
     */
    public static Credentials bearerToken(Path authorities, Path token) {
        return tls(authorities).withBearerToken(token);
    }

    /** Nothing: in the clear, to a broker that asks nobody. For a loopback. */
    public static Credentials insecure() {
        return new Credentials(List.of(), InsecureChannelCredentials::create, false);
    }

    /**
     * These, and a bearer token as well.
     *
     * @throws IllegalArgumentException the file can't be read
     * @throws IllegalStateException these are insecure: a bearer token is never sent in the clear
     */
    public Credentials withBearerToken(Path token) {
        if (!encrypted) {
            throw new IllegalStateException("a bearer token is never sent in the clear");
        }
        var bearer = new BearerToken(token);
        return new Credentials(files, () -> CompositeChannelCredentials.create(reader.read(), bearer), true);
    }

    /** What a channel is opened with now; another object once the files have changed. */
    ChannelCredentials current() {
        return current.get();
    }

    private static TlsChannelCredentials.Builder trusting(Path authorities)
            throws IOException, GeneralSecurityException {
        Pem.certificates(authorities); // gRPC reads them at the first call, which is too late to refuse them.
        return TlsChannelCredentials.newBuilder().trustManager(Pem.stream(authorities));
    }
}
