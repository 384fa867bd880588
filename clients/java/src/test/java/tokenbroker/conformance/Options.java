package tokenbroker.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import tokenbroker.client.Client;
import tokenbroker.client.Credentials;

/** The options of {@code open}, as the client's builder takes them. */
final class Options {
    private static final double NANOS_PER_SECOND = Duration.ofSeconds(1).toNanos();

    private Options() {}

    static Client open(JsonObject options) {
        var builder = Client.builder(options.get("target").getAsString()).credentials(credentials(options));
        option(options, "plugin_id").map(JsonElement::getAsString).ifPresent(builder::pluginId);
        option(options, "timeout_seconds").map(Options::duration).ifPresent(builder::timeout);
        option(options, "max_age_seconds").map(Options::duration).ifPresent(builder::maxAge);
        option(options, "max_installs").map(JsonElement::getAsInt).ifPresent(builder::maxInstalls);
        option(options, "watch").map(JsonElement::getAsBoolean).ifPresent(builder::watch);
        return builder.build();
    }

    private static Credentials credentials(JsonObject options) {
        var authorities = file(options, "ca_file");
        var certificate = file(options, "certificate_file");
        var key = file(options, "key_file");
        var token = file(options, "token_file");
        if (option(options, "insecure").map(JsonElement::getAsBoolean).orElse(false)) {
            if (authorities.or(() -> certificate).or(() -> key).isPresent()) {
                throw new IllegalArgumentException("insecure, and files of TLS");
            }
            return with(token, Credentials.insecure());
        }
        var trusted = authorities.orElseThrow(() -> new IllegalArgumentException("neither ca_file nor insecure"));
        if (certificate.isPresent() || key.isPresent()) {
            return with(token, Credentials.mutualTls(trusted, certificate.orElseThrow(), key.orElseThrow()));
        }
        return with(token, Credentials.tls(trusted));
    }

    private static Credentials with(Optional<Path> token, Credentials credentials) {
        return token.map(credentials::withBearerToken).orElse(credentials);
    }

    private static Optional<Path> file(JsonObject options, String name) {
        return option(options, name).map(JsonElement::getAsString).map(Path::of);
    }

    private static Optional<JsonElement> option(JsonObject options, String name) {
        return Optional.ofNullable(options.get(name)).filter(value -> !value.isJsonNull());
    }

    private static Duration duration(JsonElement seconds) {
        return Duration.ofNanos((long) (seconds.getAsDouble() * NANOS_PER_SECOND));
    }
}
