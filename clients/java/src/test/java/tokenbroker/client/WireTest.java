package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.context.Context;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** How calls reach a broker, and what they carry. */
class WireTest {
    private static final int ATTEMPTS = 4;

    private FakeBroker broker;

    @BeforeEach
    void start() throws IOException {
        broker = new FakeBroker();
    }

    @AfterEach
    void stop() {
        broker.close();
    }

    /** A replica that restarts is no error to callers, and a broker that is away is not besieged. */
    @Test
    void unavailableIsTriedFourTimes() {
        broker.answering = FakeBroker.fails(Status.UNAVAILABLE.asRuntimeException());
        assertEquals(Reason.BROKER_UNREACHABLE, failure(broker.target()).reason());
        assertEquals(ATTEMPTS, broker.calls.get());
    }

    /** No other status is mended by a retry. */
    @Test
    void otherStatusesAreTriedOnce() {
        broker.answering = FakeBroker.fails(FakeBroker.status(Status.Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED));
        assertEquals(Reason.OVERLOADED, failure(broker.target()).reason());
        assertEquals(1, broker.calls.get());
    }

    /** When Envoy is away, trying again costs the broker and brings nothing: it says so. */
    @Test
    void brokerCanForbidRetries() {
        var away = FakeBroker.status(Status.Code.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE);
        var trailers = new Metadata();
        trailers.merge(away.getTrailers());
        trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), "-1");
        broker.answering = FakeBroker.fails(new StatusRuntimeException(away.getStatus(), trailers));
        assertEquals(Reason.PROVIDER_UNAVAILABLE, failure(broker.target()).reason());
        assertEquals(1, broker.calls.get());
    }

    /** No wait is without an end. */
    @Test
    void callThatIsNotAnsweredEndsWithItsDeadline() {
        broker.answering = (request, answers) -> {};
        try (var client =
                builder(broker.target()).timeout(Duration.ofMillis(50)).build()) {
            assertEquals(Reason.DEADLINE_EXCEEDED, failure(client).reason());
        }
    }

    /** One trace shows a token's way, from the caller to Envoy. */
    @Test
    void callCarriesTheTraceOfWhoBeganIt() throws InterruptedException {
        var span = SpanContext.create(
                "0af7651916cd43dd8448eb211c80319c",
                "b7ad6b7169203331",
                TraceFlags.getSampled(),
                TraceState.builder().put("vendor", "value").build());
        try (var client = builder(broker.target()).build()) {
            Context.root().with(Span.wrap(span)).wrapSupplier(() -> get(client)).get();
        }
        var headers = broker.headers.take();
        assertEquals("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", header(headers, "traceparent"));
        assertEquals("vendor=value", header(headers, "tracestate"));
    }

    /** The broker's operator sees which clients of which release call. */
    @Test
    void userAgentNamesTheClientAndItsRelease() throws InterruptedException {
        try (var client = builder(broker.target()).build()) {
            get(client);
        }
        var expected = "token-broker-client-java/" + System.getProperty("project.version") + " grpc-java";
        assertTrue(header(broker.headers.take(), "user-agent").startsWith(expected));
    }

    /** A list of addresses is a name of gRPC's, which Java's does not know by itself. */
    @Test
    void callsGoRoundOverAListOfAddresses() throws IOException {
        try (var second = new FakeBroker();
                var client = builder("ipv4:" + broker.target() + "," + second.target())
                        .build()) {
            for (var install = 0; broker.calls.get() == 0 || second.calls.get() == 0; install++) {
                client.token(Integer.toString(install)).toCompletableFuture().join();
            }
        }
    }

    /** A replica that is away is left out. */
    @Test
    void replicaThatIsAwayIsLeftOut() throws IOException {
        var away = new FakeBroker();
        away.close();
        try (var client =
                builder("ipv4:" + away.target() + "," + broker.target()).build()) {
            assertEquals(1, get(client).generation());
        }
    }

    /** Rolling restarts fail no call because who leaves says so first. */
    @Test
    void replicaThatSaysItDoesNotServeIsLeftOut() throws IOException {
        try (var leaving = new FakeBroker();
                var client = builder("ipv4:" + leaving.target() + "," + broker.target())
                        .build()) {
            leaving.serving(false);
            for (var install = 0; install < 20; install++) {
                client.token(Integer.toString(install)).toCompletableFuture().join();
            }
            assertEquals(0, leaving.calls.get());
        }
    }

    /** Said when it is opened, and not at the first token. */
    @Test
    void listOfAddressesIsReadAtOpening() {
        assertThrows(IllegalArgumentException.class, () -> AddressListResolver.of("localhost:50051"));
        assertThrows(
                IllegalArgumentException.class, () -> builder("ipv4:1.2.3.4").build());
    }

    /** Whose credentials are left out by mistake must not call in the clear. */
    @Test
    void credentialsMustBeGiven() {
        var builder = Client.builder(broker.target());
        assertThrows(IllegalStateException.class, builder::build);
    }

    private static ClientBuilder builder(String target) {
        return Client.builder(target).credentials(Credentials.insecure());
    }

    private static Token get(Client client) {
        return client.token("1000000").toCompletableFuture().join();
    }

    private static TokenBrokerException failure(Client client) {
        var thrown = assertThrows(CompletionException.class, () -> get(client));
        return assertInstanceOf(TokenBrokerException.class, thrown.getCause());
    }

    private static TokenBrokerException failure(String target) {
        try (var client = builder(target).build()) {
            return failure(client);
        }
    }

    private static String header(Metadata headers, String name) {
        return headers.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
    }
}
