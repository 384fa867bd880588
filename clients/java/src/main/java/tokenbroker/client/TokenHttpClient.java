package tokenbroker.client;

import java.io.IOException;
import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.PushPromiseHandler;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;

/**
 * An {@link HttpClient} that puts the token of an install on requests to Envoy, and on no others.
 *
 * <p>Upon a 401 it reports the token, and sends the request once more if there is a newer one and the body can be sent
 * twice: if its length is known. (Of a stream nobody can tell.) Where there is no token at all, the request fails with a
 * {@link TokenBrokerException}.
 */
public final class TokenHttpClient extends HttpClient {
    private final Client client;
    private final String installId;
    private final HttpClient http;
    private final Origin origin;

    /**
     * For Envoy's own API, {@code https://api.envoy.com}.
     *
     * @throws IllegalArgumentException {@code http} follows redirects; see the other constructor
     */
    public TokenHttpClient(Client client, String installId, HttpClient http) {
        this(client, installId, http, Origin.ENVOY);
    }

    /**
     * For Envoy at another origin, such as a simulated one.
     *
     * @throws IllegalArgumentException the origin is no http or https URL; or {@code http} follows redirects: it would
     *     carry the token to wherever they lead
     */
    public TokenHttpClient(Client client, String installId, HttpClient http, URI envoy) {
        if (http.followRedirects() != Redirect.NEVER) {
            throw new IllegalArgumentException("a client that follows redirects would carry the token along");
        }
        this.client = client;
        this.installId = installId;
        this.http = http;
        this.origin = Origin.of(envoy);
    }

    @Override
    public <T> HttpResponse<T> send(HttpRequest request, BodyHandler<T> handler)
            throws IOException, InterruptedException {
        var sent = sendAsync(request, handler);
        try {
            return sent.get();
        } catch (InterruptedException interrupted) {
            sent.cancel(true);
            throw interrupted;
        } catch (ExecutionException failure) {
            throw rethrown(failure.getCause());
        }
    }

    @Override
    public <T> CompletableFuture<HttpResponse<T>> sendAsync(HttpRequest request, BodyHandler<T> handler) {
        return sendAsync(request, handler, null);
    }

    @Override
    public <T> CompletableFuture<HttpResponse<T>> sendAsync(
            HttpRequest request, BodyHandler<T> handler, PushPromiseHandler<T> pushes) {
        if (!origin.equals(Origin.of(request.uri()))) {
            return http.sendAsync(request, handler, pushes);
        }
        return new TokenExchange<>(client, http, request, handler, pushes).begin(installId);
    }

    @Override
    public Optional<CookieHandler> cookieHandler() {
        return http.cookieHandler();
    }

    @Override
    public Optional<Duration> connectTimeout() {
        return http.connectTimeout();
    }

    @Override
    public Redirect followRedirects() {
        return http.followRedirects();
    }

    @Override
    public Optional<ProxySelector> proxy() {
        return http.proxy();
    }

    @Override
    public SSLContext sslContext() {
        return http.sslContext();
    }

    @Override
    public SSLParameters sslParameters() {
        return http.sslParameters();
    }

    @Override
    public Optional<Authenticator> authenticator() {
        return http.authenticator();
    }

    @Override
    public Version version() {
        return http.version();
    }

    @Override
    public Optional<Executor> executor() {
        return http.executor();
    }

    private static IOException rethrown(Throwable failure) {
        var cause = failure instanceof CompletionException ? failure.getCause() : failure;
        if (cause instanceof RuntimeException unchecked) {
            throw unchecked;
        }
        if (cause instanceof Error error) {
            throw error;
        }
        return cause instanceof IOException expected ? expected : new IOException(cause);
    }
}
