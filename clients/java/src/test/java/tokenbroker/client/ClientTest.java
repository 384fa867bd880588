package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Context;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import tokenbroker.v1.GetTokenResponse;

/** A token from memory where that is right, and one call where it is not. */
class ClientTest {
    private static final String INSTALL = "1000000";
    private static final Duration PAST_FRESH = Duration.ofMinutes(6);
    private static final Duration PAST_LIFE = Duration.ofHours(2);

    private final MovableClock clock = new MovableClock();
    private FakeBroker broker;
    private Client client;

    @BeforeEach
    void open() throws IOException {
        broker = new FakeBroker();
        client = Client.builder(broker.target())
                .credentials(Credentials.insecure())
                .clock(clock)
                .build();
    }

    @AfterEach
    void close() {
        client.close();
        broker.close();
    }

    /** The fastest call is none. */
    @Test
    void freshTokenComesFromMemory() {
        var first = get();
        assertEquals("secret-of-generation-1", first.reveal());
        assertSame(first, get());
        assertEquals(1, broker.calls.get());
    }

    /** All readers share the fresh answer: one that completes or cancels "his" must not do it to the others. */
    @Test
    void callerCantHarmTheSharedAnswer() {
        get();
        client.token(INSTALL).toCompletableFuture().obtrudeException(new IllegalStateException());
        client.token(INSTALL).toCompletableFuture().cancel(true);
        assertEquals(1, get().generation());
        assertThrows(
                UnsupportedOperationException.class,
                () -> ((CompletableFuture<Token>) client.token(INSTALL)).complete(null));
    }

    /** Nobody waits for what can be had. */
    @Test
    void staleTokenComesFromMemoryAndIsRefreshedBehind() throws InterruptedException {
        get();
        var held = hold();
        clock.advance(PAST_FRESH);
        assertEquals(1, get().generation());
        assertEquals(1, get().generation());
        var observer = held.take();
        var flight = client.refresh(INSTALL);
        answer(observer, 2);
        assertEquals(2, flight.join().generation());
        assertEquals(2, get().generation());
        assertEquals(2, broker.calls.get());
    }

    /** An expired token is none. */
    @Test
    void expiredTokenIsWaitedFor() {
        get();
        broker.answering = FakeBroker.answersWith(2, 3600);
        clock.advance(PAST_LIFE);
        assertEquals(2, get().generation());
    }

    /** A crowd at the moment of expiry is one call. */
    @Test
    void thousandCallersCauseOneCall() throws InterruptedException {
        var held = hold();
        var waiting = IntStream.range(0, 1000)
                .mapToObj(index -> client.token(INSTALL).toCompletableFuture())
                .toList();
        answer(held.take(), 1);
        waiting.forEach(token -> assertEquals(1, token.join().generation()));
        assertEquals(1, broker.calls.get());
    }

    /** One request's time-out is not everybody's. */
    @Test
    void callerThatGivesUpLeavesTheCallAndTheOthers() throws InterruptedException {
        var held = hold();
        var givesUp = client.token(INSTALL).toCompletableFuture();
        var waits = client.token(INSTALL).toCompletableFuture();
        var observer = held.take();
        assertTrue(givesUp.cancel(true));
        answer(observer, 1);
        assertEquals(1, waits.join().generation());
        assertEquals(1, get().generation());
        assertEquals(1, broker.calls.get());
    }

    /** Continuations run one after another on the thread that completes: a slow one must not be ahead of others. */
    @Test
    void continuationThatBlocksHoldsUpNobodyElse() throws InterruptedException {
        var held = hold();
        var release = new CountDownLatch(1);
        var waits = client.token(INSTALL).toCompletableFuture();
        var blocks = client.token(INSTALL).thenAccept(token -> await(release));
        answer(held.take(), 1);
        assertEquals(1, waits.join().generation());
        release.countDown();
        blocks.toCompletableFuture().join();
    }

    /** A service that answers a gRPC call asks for tokens in that call's context, and its caller may hang up. */
    @Test
    void callOutlivesTheGrpcCallThatBeganIt() throws Exception {
        var held = hold();
        var serving = Context.current().withCancellation();
        var token = serving.call(() -> client.token(INSTALL)).toCompletableFuture();
        var observer = held.take();
        serving.cancel(null);
        answer(observer, 1);
        assertEquals(1, token.join().generation());
    }

    /** A broker that fails is not asked at each read; RetryInfo says when to come again. */
    @Test
    void refreshThatFailedPausesAsTheBrokerSaid() throws InterruptedException {
        get();
        var overloaded = FakeBroker.status(Status.Code.RESOURCE_EXHAUSTED, "tokenbroker.v1", "OVERLOADED", 30);
        clock.advance(PAST_FRESH);
        refreshAndFail(overloaded);
        broker.answering = FakeBroker.answersWith(1, 3600);
        clock.advance(Duration.ofSeconds(29));
        assertEquals(1, get().generation());
        client.token("another").toCompletableFuture().join(); // A refresh that had begun would be ahead of it.
        assertEquals(3, broker.calls.get());
        clock.advance(Duration.ofSeconds(1));
        refreshAndFail(overloaded);
        assertEquals(4, broker.calls.get());
    }

    /** A broker's outage is not its callers'. */
    @Test
    void tokenServesThroughAnOutageUntilItExpires() {
        get();
        broker.close();
        clock.advance(PAST_FRESH);
        assertEquals(1, get().generation());
        assertThrows(CompletionException.class, client.refresh(INSTALL)::join);
        assertEquals(1, get().generation());
        clock.advance(PAST_LIFE);
        assertEquals(Reason.BROKER_UNREACHABLE, failure().reason());
    }

    /** These say that the caller must not use what it has. */
    @ParameterizedTest
    @EnumSource(names = {"INSTALL_NOT_FOUND", "REAUTHORIZATION_REQUIRED", "CALLER_NOT_ALLOWED"})
    void definiteAnswerEndsTheUseOfTheToken(Reason reason) throws InterruptedException {
        get();
        var definite = FakeBroker.status(Status.Code.NOT_FOUND, reason);
        clock.advance(PAST_FRESH);
        refreshAndFail(definite);
        broker.answering = FakeBroker.fails(definite);
        assertEquals(reason, failure().reason());
    }

    /** An install that comes back is served at once. */
    @Test
    void failuresAreNotRemembered() {
        broker.answering = FakeBroker.fails(FakeBroker.status(Status.Code.NOT_FOUND, Reason.INSTALL_NOT_FOUND));
        assertEquals(Reason.INSTALL_NOT_FOUND, failure().reason());
        broker.answering = FakeBroker.answersWith(1, 3600);
        assertEquals(1, get().generation());
    }

    /** What is reported is not used again. */
    @Test
    void rejectedTokenIsReportedAndForgotten() {
        var token = get();
        broker.answering = FakeBroker.answersWith(2, 3600);
        assertTrue(client.reject(token).toCompletableFuture().join());
        assertEquals(2, get().generation());
        assertEquals(1, broker.reports.get());
    }

    /** A token is more than nothing while the broker can't hear the report. */
    @Test
    void tokenWhoseReportFailsStays() {
        var token = get();
        broker.reportFailure = FakeBroker.status(Status.Code.INTERNAL, Reason.INTERNAL);
        assertThrows(
                CompletionException.class,
                () -> client.reject(token).toCompletableFuture().join());
        assertSame(token, get());
    }

    /** Nobody waits for a client that is gone. */
    @Test
    void closingReleasesWhoeverWaits() throws InterruptedException {
        var held = hold();
        var waits = client.token(INSTALL).toCompletableFuture();
        held.take();
        client.close();
        var thrown = assertThrows(CompletionException.class, waits::join);
        assertInstanceOf(TokenBrokerException.class, thrown.getCause());
    }

    private Token get() {
        return client.token(INSTALL).toCompletableFuture().join();
    }

    private TokenBrokerException failure() {
        var thrown = assertThrows(CompletionException.class, this::get);
        return assertInstanceOf(TokenBrokerException.class, thrown.getCause());
    }

    /** From now on the broker holds what it is asked; the test answers. */
    private BlockingQueue<StreamObserver<GetTokenResponse>> hold() {
        var held = new LinkedBlockingQueue<StreamObserver<GetTokenResponse>>();
        broker.answering = (request, answers) -> held.add(answers);
        return held;
    }

    private static void answer(StreamObserver<GetTokenResponse> answers, long generation) {
        answers.onNext(FakeBroker.token(INSTALL, generation, 3600));
        answers.onCompleted();
    }

    /** Has a stale token refreshed behind, and waits until that has failed. */
    private void refreshAndFail(RuntimeException failure) throws InterruptedException {
        var held = hold();
        assertEquals(1, get().generation());
        var observer = held.take();
        var flight = client.refresh(INSTALL);
        observer.onError(failure);
        assertThrows(CompletionException.class, flight::join);
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }
}
