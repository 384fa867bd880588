package tokenbroker.client;

import java.time.Duration;

/**
 * An access token of one install, and until when it may be used.
 *
 * <p>Its value shows itself by {@link #reveal()} alone: every text form of it is masked.
 */
public final class Token {
    private static final String MASK = "********";

    // Transient, so that what serializes fields by reflection (Gson does) passes over it.
    private final transient String value;
    private final String type;
    private final long generation;
    private final String installId;
    private final String companyId;
    private final NanoClock clock;
    private final long expiresAtNanos;

    Token(
            String value,
            String type,
            long generation,
            String installId,
            String companyId,
            NanoClock clock,
            long expiresAtNanos) {
        this.value = value;
        this.type = type;
        this.generation = generation;
        this.installId = installId;
        this.companyId = companyId;
        this.clock = clock;
        this.expiresAtNanos = expiresAtNanos;
    }

    /** The secret itself: for the wire, and for no log. */
    public String reveal() {
        return value;
    }

    /** Its type as Envoy named it: {@code Bearer}. */
    public String type() {
        return type;
    }

    /** Counts the token sets of this install: a higher one is newer. Log this, never the value. */
    public long generation() {
        return generation;
    }

    /** The install, as it was asked for. */
    public String installId() {
        return installId;
    }

    /** The company whose data the token opens, as Envoy named it; empty if Envoy did not say. */
    public String companyId() {
        return companyId;
    }

    /** How long it may still be used, by a monotonic clock; zero once it has expired. */
    public Duration remaining() {
        return Duration.ofNanos(Math.max(0, expiresAtNanos - clock.nanos()));
    }

    /** The value of an {@code Authorization} header. A secret, too. */
    String authorization() {
        return type + " " + value;
    }

    /** The same token, as one that may be used no more. */
    Token expired(long nowNanos) {
        return new Token(value, type, generation, installId, companyId, clock, nowNanos);
    }

    long expiresAtNanos() {
        return expiresAtNanos;
    }

    @Override
    public String toString() {
        return "Token[" + type + " " + MASK + ", install " + installId + ", generation " + generation + "]";
    }
}
