package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What is remembered, for how long, and what leaves. */
class MemoryTest {
    private static final Duration MOMENT = Duration.ofMillis(1);

    private final MovableClock clock = new MovableClock();
    private final Memory memory = new Memory(2, Duration.ofMinutes(5).toNanos(), clock);

    /** Half of the life; five minutes at most; a second at least; and never longer than it lives. */
    @ParameterizedTest
    @CsvSource({"60000, 30000", "3600000, 300000", "1500, 1000", "400, 400", "0, 0"})
    void freshFor(long expiresInMillis, long freshMillis) {
        remember(token("a", 1, Duration.ofMillis(expiresInMillis)));
        var entry = memory.find("a");
        assertTrue(freshMillis == 0 || entry.isFresh(clock.nanos()));
        clock.advance(Duration.ofMillis(freshMillis).minusNanos(1));
        assertTrue(freshMillis == 0 || entry.isFresh(clock.nanos()));
        clock.advance(Duration.ofNanos(1));
        assertFalse(entry.isFresh(clock.nanos()));
    }

    /** Memory is bounded, and an install in use must not be the one to leave. */
    @Test
    void leastLatelyAskedForLeavesFirst() {
        remember(token("a", 1, Duration.ofHours(1)));
        clock.advance(MOMENT);
        remember(token("b", 1, Duration.ofHours(1)));
        clock.advance(MOMENT);
        memory.find("a").asked(clock.nanos());
        clock.advance(MOMENT);
        remember(token("c", 1, Duration.ofHours(1)));
        assertNull(memory.find("b"));
        assertNotNull(memory.find("a"));
        assertNotNull(memory.find("c"));
    }

    /** Answers overtake one another. */
    @Test
    void olderGenerationChangesNothing() {
        var newer = token("a", 2, Duration.ofHours(1));
        remember(newer);
        assertSame(newer, remember(token("a", 1, Duration.ofHours(1))));
        assertSame(newer, memory.find("a").token);
    }

    /** A refresh that began before the broker knew of the rejection answers with the rejected token. */
    @Test
    void answerToACallFromBeforeItsRejectionIsNotTaken() {
        remember(token("a", 1, Duration.ofHours(1)));
        var begun = clock.nanos();
        clock.advance(MOMENT);
        assertTrue(memory.spend("a", 1));
        memory.remember(token("a", 1, Duration.ofHours(1)), begun);
        assertFalse(memory.find("a").isUsable(clock.nanos()));
    }

    /** After a report the broker may still hold the token for good (its cool-down), and it decides. */
    @Test
    void answerToACallFromAfterItsRejectionIsTaken() {
        remember(token("a", 1, Duration.ofHours(1)));
        memory.spend("a", 1);
        clock.advance(MOMENT);
        remember(token("a", 1, Duration.ofHours(1)));
        assertTrue(memory.find("a").isUsable(clock.nanos()));
    }

    /** Someone else's 401 to an old token says nothing about the new one. */
    @Test
    void rejectionOfAnOlderGenerationSpendsNothing() {
        remember(token("a", 2, Duration.ofHours(1)));
        assertFalse(memory.spend("a", 1));
        assertTrue(memory.find("a").isFresh(clock.nanos()));
    }

    /** What was evicted while the broker pushed it must not come back, nor push others out. */
    @Test
    void updateOfAnInstallThatIsNotRememberedIsNotTaken() {
        memory.update(token("a", 1, Duration.ofHours(1)));
        assertNull(memory.find("a"));
    }

    /** A push is nobody's asking. */
    @Test
    void updateDoesNotCountAsAsking() {
        remember(token("a", 1, Duration.ofHours(1)));
        var asked = memory.find("a").askedAtNanos();
        clock.advance(MOMENT);
        memory.update(token("a", 2, Duration.ofHours(1)));
        assertEquals(2, memory.find("a").token.generation());
        assertEquals(asked, memory.find("a").askedAtNanos());
    }

    private Token remember(Token token) {
        return memory.remember(token, clock.nanos());
    }

    private Token token(String installId, long generation, Duration expiresIn) {
        return new Token("value", "Bearer", generation, installId, "", clock, clock.nanos() + expiresIn.toNanos());
    }
}
