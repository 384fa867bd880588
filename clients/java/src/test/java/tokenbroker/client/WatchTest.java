package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Duration;
import io.grpc.Status;
import io.grpc.stub.ServerCallStreamObserver;
import java.io.IOException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import tokenbroker.v1.ErrorReason;
import tokenbroker.v1.TokenFailure;
import tokenbroker.v1.WatchTokensHeartbeat;
import tokenbroker.v1.WatchTokensResponse;
import tokenbroker.v1.WatchTokensUnavailable;

/** What the broker pushes, and what becomes of a stream that ends. */
class WatchTest {
    private static final int NANOS_PER_MILLI = 1_000_000;

    private FakeBroker broker;
    private Client client;

    @BeforeEach
    void open() throws IOException {
        broker = new FakeBroker();
        client = Client.builder(broker.target())
                .credentials(Credentials.insecure())
                .maxInstalls(2)
                .watch(true)
                .build();
    }

    @AfterEach
    void close() {
        client.close();
        broker.close();
    }

    /** The next caller has the newest token, and nobody has asked for it. */
    @Test
    void pushedGenerationReplacesTheOneInMemory() throws InterruptedException {
        get("a");
        var watching = broker.watchings.take();
        var subscribe = watching.said().take().getSubscribe();
        assertEquals("a", subscribe.getInstallId());
        assertEquals(1, subscribe.getKnownGeneration());
        watching.answers().onNext(token("a", 2));
        untilMemoryHas(2);
        assertEquals(1, broker.calls.get());
    }

    /** A revoked token must not be served for minutes more. */
    @Test
    void tokenThatIsUnavailableIsNotServed() throws InterruptedException {
        get("a");
        var watching = broker.watchings.take();
        broker.answering = FakeBroker.answersWith(2, 3600);
        watching.answers().onNext(unavailable("a", ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE));
        untilMemoryHas(2);
        assertEquals(2, broker.calls.get());
    }

    /** Too many subscriptions are no reason to throw a valid token away. */
    @Test
    void tokenWhoseSubscriptionIsRefusedStays() throws InterruptedException {
        get("a");
        var watching = broker.watchings.take();
        watching.answers().onNext(unavailable("a", ErrorReason.ERROR_REASON_OVERLOADED));
        watching.answers().onNext(token("a", 2));
        untilMemoryHas(2);
        assertEquals(1, broker.calls.get());
    }

    /** The broker keeps nothing for an install that is not remembered. */
    @Test
    void evictionUnsubscribes() throws InterruptedException {
        get("a");
        var said = broker.watchings.take().said();
        get("b");
        get("c");
        assertEquals("a", said.take().getSubscribe().getInstallId());
        assertEquals("b", said.take().getSubscribe().getInstallId());
        assertEquals("a", said.take().getUnsubscribe().getInstallId());
        assertEquals("c", said.take().getSubscribe().getInstallId());
    }

    /** The broker ends each stream after some minutes, and when it stops. */
    @Test
    void streamThatEndsIsOpenedAgainWithWhatIsKnown() throws InterruptedException {
        get("a");
        var first = broker.watchings.take();
        first.answers().onNext(token("a", 5));
        first.answers().onCompleted();
        var again = broker.watchings.take().said().take().getSubscribe();
        assertEquals("a", again.getInstallId());
        assertEquals(5, again.getKnownGeneration());
    }

    /** A connection can die without a word. */
    @Test
    void silentStreamIsOpenedAgain() throws InterruptedException {
        get("a");
        broker.watchings.take().answers().onNext(heartbeat(20));
        assertEquals("a", broker.watchings.take().said().take().getSubscribe().getInstallId());
    }

    /** An older broker does not know WatchTokens: memory works as without. */
    @Test
    void brokerThatCantWatchChangesNothing() throws InterruptedException {
        get("a");
        for (var attempt = 0; attempt < 3; attempt++) {
            broker.watchings.take().answers().onError(Status.UNIMPLEMENTED.asRuntimeException());
        }
        get("a");
        assertEquals(1, broker.calls.get());
    }

    /** A client that is closed leaves nothing behind. */
    @Test
    void closingEndsTheStream() throws InterruptedException {
        get("a");
        var observer = (ServerCallStreamObserver<WatchTokensResponse>)
                broker.watchings.take().answers();
        client.close();
        while (!observer.isCancelled()) {
            Thread.onSpinWait();
        }
        assertTrue(broker.watchings.isEmpty());
    }

    private Token get(String installId) {
        return client.token(installId).toCompletableFuture().join();
    }

    /** Waits until a push has reached the memory. */
    private void untilMemoryHas(long generation) {
        while (get("a").generation() != generation) {
            Thread.onSpinWait();
        }
    }

    private static WatchTokensResponse token(String installId, long generation) {
        return WatchTokensResponse.newBuilder()
                .setToken(FakeBroker.token(installId, generation, 3600))
                .build();
    }

    private static WatchTokensResponse unavailable(String installId, ErrorReason reason) {
        return WatchTokensResponse.newBuilder()
                .setUnavailable(WatchTokensUnavailable.newBuilder()
                        .setInstallId(installId)
                        .setFailure(TokenFailure.newBuilder().setReason(reason)))
                .build();
    }

    private static WatchTokensResponse heartbeat(int nextWithinMillis) {
        return WatchTokensResponse.newBuilder()
                .setHeartbeat(WatchTokensHeartbeat.newBuilder()
                        .setNextWithin(Duration.newBuilder()
                                .setSeconds(nextWithinMillis / 1000)
                                .setNanos(nextWithinMillis % 1000 * NANOS_PER_MILLI)))
                .build();
    }
}
