package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.Serializable;
import java.time.Duration;
import org.junit.jupiter.api.Test;

/** A token in a log is a token lost. */
class TokenTest {
    private static final String SECRET = "never-to-be-seen";

    private final MovableClock clock = new MovableClock();
    private final Token token = new Token(
            SECRET,
            "Bearer",
            7,
            "1000000",
            "100000",
            clock,
            clock.nanos() + Duration.ofHours(1).toNanos());

    /** Logs and debuggers call toString. */
    @Test
    void textOfATokenIsMasked() {
        assertEquals("Token[Bearer ********, install 1000000, generation 7]", token.toString());
    }

    /** Gson reads private fields, and knows nothing of secrets. Its clock stands for a system's, which is a lambda. */
    @Test
    void jsonOfATokenHoldsNoValue() {
        var gson = new GsonBuilder()
                .registerTypeAdapter(NanoClock.class, (com.google.gson.JsonSerializer<NanoClock>)
                        (value, type, context) -> new Gson().toJsonTree("clock"))
                .create();
        assertFalse(gson.toJson(token).contains(SECRET));
    }

    /** A session store or a cache would write the value to a disk. */
    @Test
    void tokenCantBeSerialized() {
        assertFalse(Serializable.class.isAssignableFrom(Token.class));
    }

    /** There is one way to the value, to be looked for in a review. */
    @Test
    void revealTellsTheValue() {
        assertEquals(SECRET, token.reveal());
    }

    /** Who keeps a token has to see when it ends. */
    @Test
    void remainingEndsAtZero() {
        assertEquals(Duration.ofHours(1), token.remaining());
        clock.advance(Duration.ofHours(2));
        assertTrue(token.remaining().isZero());
    }
}
