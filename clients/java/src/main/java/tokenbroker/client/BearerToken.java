package tokenbroker.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.regex.Pattern;

/** A bearer token from a file (Kubernetes' projected token), sent with each call, and never in the clear. */
final class BearerToken extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    /** RFC 6750, section 2.1: b64token. */
    private static final Pattern TOKEN = Pattern.compile("[A-Za-z0-9._~+/-]+=*");

    private final Reloaded<String> token;

    BearerToken(Path file) {
        this.token = new Reloaded<>(List.of(file), () -> read(file));
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
        if (call.getSecurityLevel() != SecurityLevel.PRIVACY_AND_INTEGRITY) {
            applier.fail(Status.UNAUTHENTICATED.withDescription("a bearer token is not sent in the clear"));
            return;
        }
        executor.execute(() -> {
            var headers = new Metadata();
            headers.put(AUTHORIZATION, "Bearer " + token.get());
            applier.apply(headers);
        });
    }

    private static String read(Path file) throws IOException {
        var content = new String(Reloaded.bytesOf(file), StandardCharsets.US_ASCII).strip();
        if (!TOKEN.matcher(content).matches()) {
            throw new IOException("no bearer token"); // And no word of what it is instead: it may be half of one.
        }
        return content;
    }
}
