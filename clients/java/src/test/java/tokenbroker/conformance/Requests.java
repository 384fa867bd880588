package tokenbroker.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.Optional;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import okio.BufferedSink;
import tokenbroker.client.Client;
import tokenbroker.client.TokenHttpClient;
import tokenbroker.client.TokenInterceptor;

/** The command {@code request}, by one of the two HTTP adapters. */
enum Requests {
    JAVA_NET_HTTP {
        @Override
        JsonObject sent(Client client, JsonObject command) throws IOException, InterruptedException {
            var http = new TokenHttpClient(
                    client, text(command, "install"), HttpClient.newHttpClient(), URI.create(text(command, "origin")));
            var request = HttpRequest.newBuilder(URI.create(text(command, "url")))
                    .method(text(command, "method"), publisher(command))
                    .build();
            var response = http.send(request, BodyHandlers.ofString());
            var target = response.headers().firstValue("Location");
            if (target.isPresent()) {
                // java.net.http leaves it to its callers whether to follow.
                response = http.send(redirected(request, target.get()), BodyHandlers.ofString());
            }
            return Answers.of(response.statusCode(), response.body());
        }

        private static HttpRequest redirected(HttpRequest request, String target) {
            return HttpRequest.newBuilder(request, (name, value) -> true)
                    .uri(request.uri().resolve(target))
                    .build();
        }

        private static BodyPublisher publisher(JsonObject command) {
            var bytes = body(command);
            if (bytes.isEmpty()) {
                return BodyPublishers.noBody();
            }
            var once = new ByteArrayInputStream(bytes.get());
            return isReplayable(command)
                    ? BodyPublishers.ofByteArray(bytes.get())
                    : BodyPublishers.ofInputStream(() -> once);
        }
    },

    OKHTTP {
        @Override
        JsonObject sent(Client client, JsonObject command) throws IOException {
            var http = new OkHttpClient.Builder()
                    .addInterceptor(
                            new TokenInterceptor(client, text(command, "install"), URI.create(text(command, "origin"))))
                    .build();
            var request = new Request.Builder()
                    .url(text(command, "url"))
                    .method(text(command, "method"), requestBody(command))
                    .build();
            try (var response = http.newCall(request).execute()) {
                return Answers.of(response.code(), response.body().string());
            } finally {
                http.connectionPool().evictAll();
            }
        }

        private static RequestBody requestBody(JsonObject command) {
            var replayable = isReplayable(command);
            return body(command)
                    .map(bytes -> replayable ? RequestBody.create(bytes, null) : new Once(bytes))
                    .orElse(null);
        }
    };

    abstract JsonObject sent(Client client, JsonObject command) throws IOException, InterruptedException;

    JsonObject send(Client client, JsonObject command) {
        try {
            return sent(client, command);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(interrupted);
        }
    }

    private static Optional<byte[]> body(JsonObject command) {
        return Optional.ofNullable(command.get("body"))
                .filter(body -> !body.isJsonNull())
                .map(body -> body.getAsString().getBytes(StandardCharsets.UTF_8));
    }

    private static boolean isReplayable(JsonObject command) {
        return Optional.ofNullable(command.get("replayable"))
                .map(JsonElement::getAsBoolean)
                .orElse(true);
    }

    private static String text(JsonObject command, String field) {
        return command.get(field).getAsString();
    }

    private static final class Once extends RequestBody {
        private final byte[] bytes;

        Once(byte[] bytes) {
            this.bytes = bytes;
        }

        @Override
        public okhttp3.MediaType contentType() {
            return null;
        }

        @Override
        public boolean isOneShot() {
            return true;
        }

        @Override
        public void writeTo(BufferedSink sink) throws IOException {
            sink.write(bytes);
        }
    }
}
