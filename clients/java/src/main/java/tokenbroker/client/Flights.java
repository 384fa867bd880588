package tokenbroker.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Calls under way, one a key however many wait for it.
 *
 * @param <K> what a call is about
 * @param <V> what it answers
 */
final class Flights<K, V> {
    /**
     * As many threads as continuations that block at one time, and none while there is nothing to do. Not the JDK's
     * common pool: blocked ones would use that up for the whole process.
     */
    private static final Executor CONTINUATIONS = new ThreadPoolExecutor(
            0, Integer.MAX_VALUE, 5, TimeUnit.SECONDS, new SynchronousQueue<>(), Flights::daemon);

    private final ConcurrentHashMap<K, CompletableFuture<V>> flights = new ConcurrentHashMap<>();

    /**
     * The flight under way, or the one that {@code begin} begins. It is for this package alone: whoever can complete it
     * can harm all that wait. A caller gets a stage of his own, {@link #awaited}.
     */
    CompletableFuture<V> join(K key, Supplier<CompletableFuture<V>> begin) {
        var flying = flights.get(key);
        if (flying != null) {
            return flying;
        }
        var mine = new CompletableFuture<V>();
        flying = flights.putIfAbsent(key, mine);
        if (flying != null) {
            return flying;
        }
        begun(begin).whenComplete((value, failure) -> {
            flights.remove(key, mine);
            if (failure == null) {
                mine.complete(value);
            } else {
                mine.completeExceptionally(Failures.of(failure));
            }
        });
        return mine;
    }

    /** The flight goes on, but nobody else joins it. */
    void detach(K key) {
        flights.remove(key);
    }

    /**
     * A future for one who waits: cancelling or completing it touches nobody else. It completes on a thread of its own,
     * so that no caller's continuation holds up the others.
     */
    static <V> CompletableFuture<V> awaited(CompletableFuture<V> flight) {
        return flight.thenApplyAsync(value -> value, CONTINUATIONS);
    }

    private static <V> CompletableFuture<V> begun(Supplier<CompletableFuture<V>> begin) {
        try {
            return begin.get();
        } catch (RuntimeException failure) {
            return CompletableFuture.failedFuture(failure); // Else the key would be taken for ever.
        }
    }

    private static Thread daemon(Runnable work) {
        var thread = new Thread(work, "token-broker-continuation");
        thread.setDaemon(true);
        return thread;
    }
}
