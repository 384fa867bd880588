package tokenbroker.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;

/** What is remembered of one install. */
final class Entry {
    /** Writing on each read would make the readers of one install fight for a cache line; order this fine is enough. */
    private static final long ASKED_RESOLUTION_NANOS = 16_000;

    final Token token;
    /** The answer to every read: a stage that nobody can complete, so that all may have the same one. */
    final CompletionStage<Token> answer;

    final long staleAtNanos;
    private final boolean spent;
    private volatile long refreshAtNanos;
    private volatile long askedAtNanos;

    Entry(Token token, long staleAtNanos, long askedAtNanos) {
        this(token, staleAtNanos, askedAtNanos, false);
    }

    private Entry(Token token, long staleAtNanos, long askedAtNanos, boolean spent) {
        this.token = token;
        this.answer = CompletableFuture.completedStage(token);
        this.staleAtNanos = staleAtNanos;
        this.spent = spent;
        this.refreshAtNanos = staleAtNanos;
        this.askedAtNanos = askedAtNanos;
    }

    /** The same generation, known and no longer of use. */
    Entry spent(long nowNanos) {
        return new Entry(token.expired(nowNanos), nowNanos, askedAtNanos, true);
    }

    /** Whether a token that was asked for at that moment tells no more than is known. */
    boolean outdates(Token other, long askedForAtNanos) {
        if (token.generation() == other.generation()) {
            return spent && askedForAtNanos - staleAtNanos < 0;
        }
        return token.generation() > other.generation();
    }

    boolean isFresh(long nowNanos) {
        return nowNanos - staleAtNanos < 0;
    }

    boolean isUsable(long nowNanos) {
        return nowNanos - token.expiresAtNanos() < 0;
    }

    boolean isDueForRefresh(long nowNanos) {
        return nowNanos - refreshAtNanos >= 0;
    }

    void refreshNotBefore(long atNanos) {
        refreshAtNanos = atNanos;
    }

    void asked(long nowNanos) {
        if (nowNanos - askedAtNanos > ASKED_RESOLUTION_NANOS) {
            askedAtNanos = nowNanos;
        }
    }

    long askedAtNanos() {
        return askedAtNanos;
    }
}
