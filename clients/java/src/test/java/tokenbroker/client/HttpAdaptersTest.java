package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.Status;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.List;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import okio.BufferedSink;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What both HTTP adapters do with a token, and with a 401. */
class HttpAdaptersTest {
    private static final String INSTALL = "1000000";
    private static final byte[] BODY = "body".getBytes(StandardCharsets.UTF_8);

    private FakeBroker broker;
    private FakeEnvoy envoy;
    private Client client;

    /** What came back, whichever library fetched it. */
    record Answer(int status, String body) {}

    /** Whether a body can be sent twice. */
    enum Body {
        NONE,
        REPLAYABLE,
        ONCE
    }

    /** The two adapters. */
    enum Adapter {
        JAVA_NET_HTTP {
            @Override
            Answer send(Client client, URI envoy, URI url, Body body) throws IOException, InterruptedException {
                var http = new TokenHttpClient(client, INSTALL, HttpClient.newHttpClient(), envoy);
                var publisher = switch (body) {
                    case NONE -> BodyPublishers.noBody();
                    case REPLAYABLE -> BodyPublishers.ofByteArray(BODY);
                    case ONCE -> BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(BODY));
                };
                var request = HttpRequest.newBuilder(url)
                        .method(body == Body.NONE ? "GET" : "POST", publisher)
                        .build();
                var response = http.send(request, BodyHandlers.ofString());
                return new Answer(response.statusCode(), response.body());
            }
        },

        OKHTTP {
            @Override
            Answer send(Client client, URI envoy, URI url, Body body) throws IOException {
                var http = new OkHttpClient.Builder()
                        .addInterceptor(new TokenInterceptor(client, INSTALL, envoy))
                        .build();
                var requestBody = switch (body) {
                    case NONE -> null;
                    case REPLAYABLE -> RequestBody.create(BODY, null);
                    case ONCE -> new SentOnce();
                };
                var request = new Request.Builder()
                        .url(url.toURL())
                        .method(body == Body.NONE ? "GET" : "POST", requestBody)
                        .build();
                try (var response = http.newCall(request).execute()) {
                    return new Answer(response.code(), response.body().string());
                }
            }
        };

        abstract Answer send(Client client, URI envoy, URI url, Body body) throws IOException, InterruptedException;
    }

    @BeforeEach
    void open() throws IOException {
        broker = new FakeBroker();
        envoy = new FakeEnvoy();
        client = Client.builder(broker.target())
                .credentials(Credentials.insecure())
                .build();
    }

    @AfterEach
    void close() {
        client.close();
        envoy.close();
        broker.close();
    }

    /** What it is for. */
    @ParameterizedTest
    @EnumSource
    void requestToEnvoyCarriesTheToken(Adapter adapter) throws Exception {
        assertEquals(new Answer(200, "answer 1"), send(adapter, Body.REPLAYABLE));
        assertEquals(List.of(bearer(1)), envoy.authorizations());
    }

    /** Anybody else who got it could use it. */
    @ParameterizedTest
    @EnumSource
    void requestToAnotherOriginCarriesNone(Adapter adapter) throws Exception {
        try (var other = new FakeEnvoy()) {
            adapter.send(client, envoy.origin(), other.origin(), Body.NONE);
            assertEquals(List.of(FakeEnvoy.NO_AUTHORIZATION), other.authorizations());
            assertEquals(0, broker.calls.get());
        }
    }

    /** A redirect leads wherever Envoy's answer, or whoever forged it, says. */
    @Test
    void redirectToAnotherOriginCarriesNone() throws Exception {
        try (var other = new FakeEnvoy()) {
            envoy.redirectsTo(other.origin());
            assertEquals(new Answer(200, "answer 1"), send(Adapter.OKHTTP, Body.NONE));
            assertEquals(List.of(FakeEnvoy.NO_AUTHORIZATION), other.authorizations());
        }
    }

    /** A 401 of another origin says nothing about the token, which it was not shown. */
    @Test
    void refusalByAnotherOriginIsNotReported() throws Exception {
        try (var other = new FakeEnvoy()) {
            envoy.redirectsTo(other.origin());
            other.refuses(Integer.MAX_VALUE);
            assertEquals(401, send(Adapter.OKHTTP, Body.NONE).status());
            assertEquals(0, broker.reports.get());
        }
    }

    /** The JDK's client would carry every header along. */
    @Test
    void clientThatFollowsRedirectsIsRefused() {
        var follows = HttpClient.newBuilder()
                .followRedirects(HttpClient.Redirect.NORMAL)
                .build();
        assertThrows(IllegalArgumentException.class, () -> new TokenHttpClient(client, INSTALL, follows));
    }

    /** Callers need not know that a token was revoked. */
    @ParameterizedTest
    @EnumSource
    void refusedRequestIsSentOnceMoreWithANewerToken(Adapter adapter) throws Exception {
        client.token(INSTALL).toCompletableFuture().join();
        broker.answering = FakeBroker.answersWith(2, 3600);
        envoy.refuses(1);
        assertEquals(new Answer(200, "answer 2"), send(adapter, Body.REPLAYABLE));
        assertEquals(List.of(bearer(1), bearer(2)), envoy.authorizations());
        assertEquals(List.of("body", "body"), envoy.bodies());
        assertEquals(1, broker.reports.get());
    }

    /** What comes back the second time is the answer, whatever it is. */
    @ParameterizedTest
    @EnumSource
    void requestIsSentTwiceAtMost(Adapter adapter) throws Exception {
        client.token(INSTALL).toCompletableFuture().join();
        broker.answering = FakeBroker.answersWith(2, 3600);
        envoy.refuses(2);
        assertEquals(new Answer(401, "answer 2"), send(adapter, Body.NONE));
    }

    /** A 401 for lack of a permission looks the same, and must not go round for ever. */
    @ParameterizedTest
    @EnumSource
    void refusalIsTheAnswerIfThereIsNoNewerToken(Adapter adapter) throws Exception {
        envoy.refuses(1);
        assertEquals(new Answer(401, "answer 1"), send(adapter, Body.REPLAYABLE));
        assertEquals(1, broker.reports.get());
        assertEquals(2, broker.calls.get());
    }

    /** The caller has an answer of Envoy's; the broker's failure is not his. */
    @ParameterizedTest
    @EnumSource
    void refusalIsTheAnswerIfTheReportFails(Adapter adapter) throws Exception {
        broker.reportFailure = FakeBroker.status(Status.Code.INTERNAL, Reason.INTERNAL);
        envoy.refuses(1);
        assertEquals(new Answer(401, "answer 1"), send(adapter, Body.REPLAYABLE));
    }

    /** Half a body is worse than a 401; the next request profits from the report. */
    @ParameterizedTest
    @EnumSource
    void bodyThatCantBeSentTwiceHasItsTokenReported(Adapter adapter) throws Exception {
        client.token(INSTALL).toCompletableFuture().join();
        broker.answering = FakeBroker.answersWith(2, 3600);
        envoy.refuses(1);
        assertEquals(new Answer(401, "answer 1"), send(adapter, Body.ONCE));
        assertEquals(1, broker.reports.get());
        assertEquals(new Answer(200, "answer 2"), send(adapter, Body.NONE));
        assertEquals(List.of(bearer(1), bearer(2)), envoy.authorizations());
    }

    /** Where there is no token, Envoy need not be asked. */
    @ParameterizedTest
    @EnumSource
    void requestWithoutATokenFailsWithTheReason(Adapter adapter) {
        broker.answering = FakeBroker.fails(FakeBroker.status(Status.Code.NOT_FOUND, Reason.INSTALL_NOT_FOUND));
        var failure = assertThrows(TokenBrokerException.class, () -> send(adapter, Body.NONE));
        assertEquals(Reason.INSTALL_NOT_FOUND, failure.reason());
        assertEquals(List.of(), envoy.authorizations());
    }

    /** A logged response would show the token of its request. */
    @Test
    void responseNamesTheCallersOwnRequest() throws Exception {
        var http = new TokenHttpClient(client, INSTALL, HttpClient.newHttpClient(), envoy.origin());
        var request = HttpRequest.newBuilder(envoy.origin()).build();
        var response = http.send(request, BodyHandlers.discarding());
        assertEquals(request, response.request());
        assertEquals(0, response.request().headers().map().size());
    }

    /** A failure to connect looks as it does without the adapter. */
    @Test
    void failureToConnectIsAnIOException() {
        envoy.close();
        assertInstanceOf(
                IOException.class, assertThrows(Exception.class, () -> send(Adapter.JAVA_NET_HTTP, Body.NONE)));
    }

    private Answer send(Adapter adapter, Body body) throws IOException, InterruptedException {
        return adapter.send(client, envoy.origin(), envoy.origin().resolve("/path"), body);
    }

    private static String bearer(long generation) {
        return "Bearer " + FakeBroker.secret(generation);
    }

    /** A body as a stream is: gone once it is read. */
    private static final class SentOnce extends RequestBody {
        @Override
        public MediaType contentType() {
            return null;
        }

        @Override
        public boolean isOneShot() {
            return true;
        }

        @Override
        public void writeTo(BufferedSink sink) throws IOException {
            sink.write(BODY);
        }
    }
}
