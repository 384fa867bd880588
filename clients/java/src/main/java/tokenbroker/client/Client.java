package tokenbroker.client;

import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;

/**
 * Valid access tokens for the installs of an Envoy app, from the broker, and mostly out of memory.
 *
 * <pre>{@code
 * try (var client = Client.builder("dns:///tokens:50051").credentials(credentials).build()) {
 *     client.token("1000000").thenAccept(token -> …);
 * }
 * }</pre>
 *
 * <p>One client serves a whole process and any number of threads. Its own threads are daemons.
 *
 * <p>A token is <i>fresh</i> for half of the life it had left when it came, and for {@code maxAge} at most, and then
 * comes from memory. A <i>stale</i> one comes from memory, too, and is refreshed behind. One that has expired, or is
 * not known, is waited for: with one call to the broker, however many wait. A caller that gives up touches neither the
 * call nor the others: each has a stage of his own.
 */
public final class Client implements AutoCloseable {
    private static final long REFRESH_PAUSE_NANOS = 1_000_000_000L;

    private final String target;
    private final NanoClock clock;
    private final Memory memory;
    private final Broker broker;
    private final Optional<Watch> watch;
    private final Flights<String, Token> refreshes = new Flights<>();
    private final Flights<Rejection, Boolean> reports = new Flights<>();

    private record Rejection(String installId, long generation) {}

    Client(ClientBuilder options) {
        this.target = options.target;
        this.clock = options.clock;
        this.memory = new Memory(options.maxInstalls, NanoClock.nanosOf(options.maxAge), clock);
        var channels = new Channels(options.target, options.credentials, clock);
        this.broker = new Broker(channels, options.pluginId, options.timeout, clock);
        this.watch = options.watch ? Optional.of(new Watch(broker, memory)) : Optional.empty();
        watch.ifPresent(memory::listener);
    }

    /**
     * A client of the broker at a target, which is a name of gRPC's: {@code dns:///tokens:50051}, or
     * {@code ipv4:10.0.0.1:50051,10.0.0.2:50051}. Calls go round over all replicas that it names.
     */
    public static ClientBuilder builder(String target) {
        return new ClientBuilder(target);
    }

    /**
     * A token of the install that is valid now. Ask each time you call Envoy: a fresh one costs a look-up.
     *
     * @return the token, or a {@link TokenBrokerException}. Cancelling it, or {@code orTimeout}, ends this wait alone.
     */
    public CompletionStage<Token> token(String installId) {
        var entry = memory.find(installId);
        if (entry == null) {
            return awaited(installId);
        }
        var now = clock.nanos();
        entry.asked(now);
        return entry.isFresh(now) ? entry.answer : notFresh(entry, now);
    }

    /**
     * Tells the broker that Envoy answered 401 to this token, and forgets it. For who has none of the adapters, which do
     * it themselves.
     *
     * @return whether the report took the token's generation out of use (not if a newer one stood already), or a
     *     {@link TokenBrokerException}
     */
    public CompletionStage<Boolean> reject(Token token) {
        var rejection = new Rejection(token.installId(), token.generation());
        return Flights.awaited(reports.join(rejection, () -> report(rejection)));
    }

    /** Ends all calls and the watching. Whoever waits gets a {@link TokenBrokerException}. */
    @Override
    public void close() {
        watch.ifPresent(Watch::close);
        broker.close();
    }

    @Override
    public String toString() {
        return "Client[" + target + "]";
    }

    /**
     * A token that is newer than one to which Envoy answered 401, or nothing; never a failure: whoever asks has an
     * answer already.
     */
    CompletionStage<Optional<Token>> successor(Token rejected) {
        var known = memory.find(rejected.installId());
        if (known != null && known.isUsable(clock.nanos()) && isNewer(known.token, rejected)) {
            return CompletableFuture.completedStage(Optional.of(known.token));
        }
        return reject(rejected)
                .thenCompose(reported -> token(rejected.installId()))
                .handle((token, failure) -> Optional.ofNullable(token).filter(next -> isNewer(next, rejected)));
    }

    private static boolean isNewer(Token token, Token rejected) {
        return token.generation() > rejected.generation();
    }

    private CompletionStage<Token> notFresh(Entry entry, long now) {
        var installId = entry.token.installId();
        if (!entry.isUsable(now)) {
            return awaited(installId);
        }
        if (entry.isDueForRefresh(now)) {
            refresh(installId);
        }
        return entry.answer;
    }

    private CompletionStage<Token> awaited(String installId) {
        return Flights.awaited(refresh(installId));
    }

    /** The call under way for the install, or a new one. */
    CompletableFuture<Token> refresh(String installId) {
        return refreshes.join(installId, () -> refreshed(installId));
    }

    private CompletableFuture<Token> refreshed(String installId) {
        var begun = clock.nanos();
        var entry = memory.find(installId);
        if (entry != null && entry.isFresh(begun)) {
            return CompletableFuture.completedFuture(entry.token); // Another flight landed while this one began.
        }
        return broker.getToken(installId)
                .thenApply(token -> memory.remember(token, begun))
                .whenComplete((token, failure) -> learn(installId, failure));
    }

    private CompletableFuture<Boolean> report(Rejection rejection) {
        return broker.reportRejected(rejection.installId, rejection.generation)
                .whenComplete((invalidated, failure) -> learn(rejection.installId, failure))
                .thenApply(invalidated -> {
                    if (memory.spend(rejection.installId, rejection.generation)) {
                        refreshes.detach(rejection.installId); // It began before the broker knew.
                    }
                    return invalidated;
                });
    }

    /** What a call that failed says about the token in memory. */
    private void learn(String installId, Throwable thrown) {
        if (thrown == null) {
            return;
        }
        var failure = Failures.of(thrown);
        var entry = memory.find(installId);
        if (failure.reason().endsUse()) {
            memory.drop(installId);
        } else if (entry != null) {
            var pause = Math.max(
                    REFRESH_PAUSE_NANOS,
                    failure.retryAfter().map(NanoClock::nanosOf).orElse(0L));
            entry.refreshNotBefore(clock.nanos() + pause);
        }
    }
}
