package tokenbroker.client;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.util.Optional;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import okhttp3.Interceptor;
import okhttp3.Request;
import okhttp3.RequestBody;
import okhttp3.Response;

/**
 * For OkHttp: puts the token of an install on requests to Envoy, and on no others. Add it with {@code addInterceptor};
 * when OkHttp follows a redirect to another host, it leaves the token out by itself.
 *
 * <p>Upon a 401 it reports the token, and sends the request once more if there is a newer one and the body can be sent
 * twice. Where there is no token at all, the request fails with a {@link TokenBrokerException}.
 */
public final class TokenInterceptor implements Interceptor {
    private static final String AUTHORIZATION = "Authorization";

    private final Client client;
    private final String installId;
    private final Origin origin;

    /** For Envoy's own API, {@code https://api.envoy.com}. */
    public TokenInterceptor(Client client, String installId) {
        this(client, installId, Origin.ENVOY);
    }

    /**
     * For Envoy at another origin, such as a simulated one.
     *
     * @throws IllegalArgumentException the origin is no http or https URL
     */
    public TokenInterceptor(Client client, String installId, URI envoy) {
        this.client = client;
        this.installId = installId;
        this.origin = Origin.of(envoy);
    }

    @Override
    public Response intercept(Chain chain) throws IOException {
        var request = chain.request();
        if (!isForEnvoy(request)) {
            return chain.proceed(request);
        }
        var token = awaited(client.token(installId));
        var response = chain.proceed(authorized(request, token));
        if (response.code() != HttpURLConnection.HTTP_UNAUTHORIZED || !isForEnvoy(response.request())) {
            return response;
        }
        var successor = successor(token, response);
        if (successor.isEmpty() || !isReplayable(request.body())) {
            return response;
        }
        response.close();
        return chain.proceed(authorized(request, successor.get()));
    }

    private boolean isForEnvoy(Request request) {
        var url = request.url();
        return origin.equals(new Origin(url.scheme(), url.host(), url.port()));
    }

    private Optional<Token> successor(Token rejected, Response response) throws IOException {
        try {
            return awaited(client.successor(rejected));
        } catch (IOException interrupted) {
            response.close();
            throw interrupted;
        }
    }

    private static boolean isReplayable(RequestBody body) {
        return body == null || !(body.isOneShot() || body.isDuplex());
    }

    private static Request authorized(Request request, Token token) {
        return request.newBuilder().header(AUTHORIZATION, token.authorization()).build();
    }

    private static <T> T awaited(CompletionStage<T> stage) throws IOException {
        try {
            return stage.toCompletableFuture().get();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw (IOException)
                    new InterruptedIOException("interrupted while waiting for a token").initCause(interrupted);
        } catch (ExecutionException failure) {
            throw Failures.of(failure.getCause());
        }
    }
}
