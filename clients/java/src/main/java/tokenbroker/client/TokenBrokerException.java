package tokenbroker.client;

import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;

/** There is no token, or a report was not taken. Branch on {@link #reason()}: messages may change, reasons don't. */
public final class TokenBrokerException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final Reason reason;
    private final Status.Code code;
    // Null where the broker said nothing: Optional can't be serialized, as an exception must be.
    private final Duration retryAfter;

    TokenBrokerException(Reason reason, Status.Code code, String message, Duration retryAfter, Throwable cause) {
        super(reason + ": " + message, cause);
        this.reason = reason;
        this.code = code;
        this.retryAfter = retryAfter;
    }

    /** Why. */
    public Reason reason() {
        return reason;
    }

    /** The status code of gRPC. */
    public Status.Code code() {
        return code;
    }

    /** When to retry; empty where the broker did not say, as a retry won't help by itself. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(retryAfter);
    }
}
