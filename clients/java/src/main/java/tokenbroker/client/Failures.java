package tokenbroker.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletionException;
import java.util.stream.Stream;
import tokenbroker.v1.TokenFailure;

/** What a call failed with, as a {@link TokenBrokerException}. */
final class Failures {
    private static final String DOMAIN = "tokenbroker.v1";
    private static final String PREFIX = "ERROR_REASON_";

    private Failures() {}

    static TokenBrokerException of(Throwable thrown) {
        Throwable failure = thrown instanceof CompletionException ? thrown.getCause() : thrown;
        if (failure instanceof TokenBrokerException known) {
            return known;
        }
        var status = Status.fromThrowable(failure);
        List<Any> details = detailsOf(failure);
        var retryAfter = details(details, RetryInfo.class)
                .findFirst()
                .map(info -> duration(info.getRetryDelay()))
                .orElse(null);
        return new TokenBrokerException(
                reasonOf(status, details), status.getCode(), messageOf(status), retryAfter, failure);
    }

    static Reason reasonOf(TokenFailure failure) {
        var name = failure.getReason().name();
        return Reason.named(name.startsWith(PREFIX) ? name.substring(PREFIX.length()) : name);
    }

    /** A duration from outside: none is negative, and none so long that nanoseconds can't count it. */
    static Duration duration(com.google.protobuf.Duration duration) {
        if (duration.getSeconds() < 0 || duration.getNanos() < 0) {
            return Duration.ZERO;
        }
        return duration.getSeconds() < NanoClock.LONGEST.toSeconds()
                ? Duration.ofSeconds(duration.getSeconds(), duration.getNanos())
                : NanoClock.LONGEST;
    }

    private static Reason reasonOf(Status status, List<Any> details) {
        return details(details, ErrorInfo.class)
                .filter(info -> info.getDomain().equals(DOMAIN))
                .findFirst()
                .map(info -> Reason.named(info.getReason()))
                .orElseGet(() -> switch (status.getCode()) {
                    case UNAVAILABLE -> Reason.BROKER_UNREACHABLE;
                    case DEADLINE_EXCEEDED -> Reason.DEADLINE_EXCEEDED;
                    default -> Reason.UNRECOGNIZED;
                });
    }

    private static String messageOf(Status status) {
        return status.getDescription() == null ? status.getCode().name() : status.getDescription();
    }

    private static List<Any> detailsOf(Throwable failure) {
        try {
            var status = StatusProto.fromThrowable(failure);
            return status == null ? List.of() : status.getDetailsList();
        } catch (IllegalArgumentException malformed) {
            return List.of(); // Then the code alone tells.
        }
    }

    private static <M extends Message> Stream<M> details(List<Any> details, Class<M> type) {
        return details.stream().filter(any -> any.is(type)).flatMap(any -> unpacked(any, type));
    }

    private static <M extends Message> Stream<M> unpacked(Any any, Class<M> type) {
        try {
            return Stream.of(any.unpack(type));
        } catch (InvalidProtocolBufferException malformed) {
            return Stream.empty();
        }
    }
}
