package tokenbroker.client;

import java.util.Comparator;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The tokens that are remembered, of so many installs at most; the least lately asked for leaves first.
 *
 * <p>Reading takes no lock; what changes it takes one, for the length of a map's operation, or of one pass over the map
 * where an install has to leave. That is microseconds, and follows a call to the broker, which takes longer.
 */
final class Memory {
    private static final long FRESH_AT_LEAST_NANOS = 1_000_000_000L;

    /** Who wants to know which installs are remembered. Called under the lock: it must return at once. */
    interface Listener {
        Listener NOBODY = new Listener() {
            @Override
            public void remembered(Token token) {}

            @Override
            public void left(String installId) {}
        };

        void remembered(Token token);

        void left(String installId);
    }

    private final ConcurrentHashMap<String, Entry> entries = new ConcurrentHashMap<>();
    private final int maxInstalls;
    private final long maxAgeNanos;
    private final NanoClock clock;
    private Listener listener = Listener.NOBODY;

    Memory(int maxInstalls, long maxAgeNanos, NanoClock clock) {
        this.maxInstalls = maxInstalls;
        this.maxAgeNanos = maxAgeNanos;
        this.clock = clock;
    }

    synchronized void listener(Listener newListener) {
        listener = newListener;
    }

    /** What is known of the install, null if nothing. */
    Entry find(String installId) {
        return entries.get(installId);
    }

    /** The newest token of each install, of use or not. */
    List<Token> known() {
        return entries.values().stream().map(entry -> entry.token).toList();
    }

    /**
     * Takes the answer to a call that began at that moment, and returns what to use: a newer token that is known
     * already, or the answer.
     */
    synchronized Token remember(Token answer, long begunAtNanos) {
        var now = clock.nanos();
        var known = entries.get(answer.installId());
        if (known == null) {
            entries.put(answer.installId(), entryOf(answer, now, now));
            evictBeyondLimit(answer.installId());
            listener.remembered(answer);
            return answer;
        }
        if (known.outdates(answer, begunAtNanos)) {
            return known.isUsable(now) ? known.token : answer;
        }
        entries.put(answer.installId(), entryOf(answer, now, known.askedAtNanos()));
        return answer;
    }

    /** Takes a token that nobody asked for, if its install is remembered and it is not older than what is known. */
    synchronized void update(Token token) {
        if (entries.containsKey(token.installId())) {
            remember(token, clock.nanos());
        }
    }

    /** From now on this generation, and any before it, is not of use. Returns whether it was, until now. */
    synchronized boolean spend(String installId, long generation) {
        var now = clock.nanos();
        var known = entries.get(installId);
        if (known == null || known.token.generation() > generation || !known.isUsable(now)) {
            return false;
        }
        entries.put(installId, known.spent(now));
        return true;
    }

    /** Forgets the install. */
    synchronized void drop(String installId) {
        if (entries.remove(installId) != null) {
            listener.left(installId);
        }
    }

    private Entry entryOf(Token token, long now, long askedAtNanos) {
        var left = Math.max(0, token.expiresAtNanos() - now);
        var fresh = Math.max(FRESH_AT_LEAST_NANOS, Math.min(maxAgeNanos, left / 2));
        return new Entry(token, now + Math.min(fresh, left), askedAtNanos);
    }

    private void evictBeyondLimit(String newest) {
        while (entries.size() > maxInstalls) {
            var now = clock.nanos();
            entries.entrySet().stream()
                    .filter(entry -> !entry.getKey().equals(newest))
                    .max(Comparator.comparingLong(
                            entry -> now - entry.getValue().askedAtNanos()))
                    .ifPresent(entry -> drop(entry.getKey()));
        }
    }
}
