package tokenbroker.client;

import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;

/** A clock that tests move. It begins next to the largest long, where only subtraction compares rightly. */
final class MovableClock implements NanoClock {
    private final AtomicLong now =
            new AtomicLong(Long.MAX_VALUE - Duration.ofSeconds(10).toNanos());

    @Override
    public long nanos() {
        return now.get();
    }

    void advance(Duration duration) {
        now.addAndGet(duration.toNanos());
    }
}
