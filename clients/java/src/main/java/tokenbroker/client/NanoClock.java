package tokenbroker.client;

import java.time.Duration;

/** A monotonic clock in nanoseconds from a moment of its own. Compare its readings by subtraction only. */
@FunctionalInterface
interface NanoClock {
    NanoClock SYSTEM = System::nanoTime;

    /** Longer durations count as this one: nanoseconds in a long end after 292 years. */
    Duration LONGEST = Duration.ofDays(366);

    long nanos();

    static long nanosOf(Duration duration) {
        return (duration.compareTo(LONGEST) > 0 ? LONGEST : duration).toNanos();
    }
}
