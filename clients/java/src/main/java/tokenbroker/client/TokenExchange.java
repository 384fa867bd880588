package tokenbroker.client;

import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpHeaders;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.BodySubscriber;
import java.net.http.HttpResponse.PushPromiseHandler;
import java.net.http.HttpResponse.ResponseInfo;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import javax.net.ssl.SSLSession;

/**
 * One request to Envoy with a token, sent twice at most. The caller's handler sees one response: the one that is the
 * answer.
 *
 * @param <T> what the body becomes
 */
final class TokenExchange<T> {
    private static final String AUTHORIZATION = "Authorization";

    private final Client client;
    private final HttpClient http;
    private final HttpRequest request;
    private final BodyHandler<T> handler;
    private final PushPromiseHandler<T> pushes;
    private volatile Optional<Token> again = Optional.empty();
    private volatile CompletableFuture<HttpResponse<T>> sending;
    private volatile boolean abandoned;

    TokenExchange(
            Client client, HttpClient http, HttpRequest request, BodyHandler<T> handler, PushPromiseHandler<T> pushes) {
        this.client = client;
        this.http = http;
        this.request = request;
        this.handler = handler;
        this.pushes = pushes;
    }

    /** The response. Cancelling it ends the exchange. */
    CompletableFuture<HttpResponse<T>> begin(String installId) {
        var response = client.token(installId)
                .thenCompose(this::sendFirst)
                .<HttpResponse<T>>thenApply(answer -> new Answer<>(answer, request))
                .toCompletableFuture();
        response.whenComplete((answer, failure) -> {
            if (response.isCancelled()) {
                abandon();
            }
        });
        return response;
    }

    private CompletionStage<HttpResponse<T>> sendFirst(Token token) {
        return send(token, info -> isRefused(info) ? held(token, info) : handler.apply(info))
                .thenCompose(response -> again.map(successor -> send(successor, handler))
                        .orElseGet(() -> CompletableFuture.completedFuture(response)));
    }

    /** The body of a 401 goes to the caller only if that is the answer. */
    private BodySubscriber<T> held(Token rejected, ResponseInfo info) {
        return new HeldBody<>(client.successor(rejected).thenApply(successor -> {
            if (successor.isEmpty() || !isReplayable()) {
                return handler.apply(info);
            }
            again = successor;
            return new HeldBody.Discarding<>();
        }));
    }

    private CompletableFuture<HttpResponse<T>> send(Token token, BodyHandler<T> readBy) {
        var authorized = HttpRequest.newBuilder(request, (name, value) -> !name.equalsIgnoreCase(AUTHORIZATION))
                .setHeader(AUTHORIZATION, token.authorization())
                .build();
        sending = http.sendAsync(authorized, readBy, pushes);
        if (abandoned) {
            sending.cancel(true);
        }
        return sending;
    }

    private void abandon() {
        abandoned = true;
        var current = sending;
        if (current != null) {
            current.cancel(true);
        }
    }

    private boolean isReplayable() {
        return request.bodyPublisher()
                .map(publisher -> publisher.contentLength() >= 0)
                .orElse(true);
    }

    private static boolean isRefused(ResponseInfo info) {
        return info.statusCode() == HttpURLConnection.HTTP_UNAUTHORIZED;
    }

    /** A response that names the caller's own request, and so shows no token. */
    private record Answer<T>(HttpResponse<T> response, HttpRequest request) implements HttpResponse<T> {
        @Override
        public int statusCode() {
            return response.statusCode();
        }

        @Override
        public Optional<HttpResponse<T>> previousResponse() {
            return response.previousResponse().map(previous -> new Answer<>(previous, request));
        }

        @Override
        public HttpHeaders headers() {
            return response.headers();
        }

        @Override
        public T body() {
            return response.body();
        }

        @Override
        public Optional<SSLSession> sslSession() {
            return response.sslSession();
        }

        @Override
        public URI uri() {
            return response.uri();
        }

        @Override
        public HttpClient.Version version() {
            return response.version();
        }
    }
}
