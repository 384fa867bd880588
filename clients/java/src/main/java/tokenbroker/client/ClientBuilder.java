package tokenbroker.client;

import java.time.Duration;
import java.util.Objects;

/** What a {@link Client} is made of. Credentials must be given; all else has a default. */
public final class ClientBuilder {
    private static final Duration TIMEOUT = Duration.ofSeconds(30);
    private static final Duration MAX_AGE = Duration.ofMinutes(5);
    private static final int MAX_INSTALLS = 10_000;

    final String target;
    Credentials credentials;
    String pluginId = "";
    Duration timeout = TIMEOUT;
    Duration maxAge = MAX_AGE;
    int maxInstalls = MAX_INSTALLS;
    boolean watch;
    NanoClock clock = NanoClock.SYSTEM;

    ClientBuilder(String target) {
        this.target = Objects.requireNonNull(target, "target");
    }

    /** Required. How the caller proves who it is. */
    public ClientBuilder credentials(Credentials newCredentials) {
        credentials = newCredentials;
        return this;
    }

    /** The app. May be left out where the broker serves a single app. */
    public ClientBuilder pluginId(String newPluginId) {
        pluginId = Objects.requireNonNull(newPluginId, "pluginId");
        return this;
    }

    /** How long a call to the broker may take, retries and all: 30 seconds if left out. */
    public ClientBuilder timeout(Duration newTimeout) {
        timeout = requirePositive(newTimeout, "timeout");
        return this;
    }

    /** How long a token is fresh at most, and another's report or deletion unnoticed: 5 minutes if left out. */
    public ClientBuilder maxAge(Duration newMaxAge) {
        maxAge = requirePositive(newMaxAge, "maxAge");
        return this;
    }

    /** How many installs are remembered: 10,000 if left out. The least lately asked for leaves first. */
    public ClientBuilder maxInstalls(int newMaxInstalls) {
        if (newMaxInstalls < 1) {
            throw new IllegalArgumentException("maxInstalls must be at least 1");
        }
        maxInstalls = newMaxInstalls;
        return this;
    }

    /** Whether the broker pushes new tokens of the installs that are remembered. Off if left out. */
    public ClientBuilder watch(boolean newWatch) {
        watch = newWatch;
        return this;
    }

    /** For tests that move time. */
    ClientBuilder clock(NanoClock newClock) {
        clock = newClock;
        return this;
    }

    /**
     * Opens the client. No connection is made before the first token is asked for.
     *
     * @throws IllegalStateException there are no credentials
     * @throws IllegalArgumentException the target is none that gRPC knows
     */
    public Client build() {
        if (credentials == null) {
            throw new IllegalStateException("credentials are required; Credentials.insecure() for none");
        }
        return new Client(this);
    }

    private static Duration requirePositive(Duration duration, String name) {
        if (duration.isNegative() || duration.isZero()) {
            throw new IllegalArgumentException(name + " must be positive");
        }
        return duration;
    }
}
