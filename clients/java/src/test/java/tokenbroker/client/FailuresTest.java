package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.Optional;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tokenbroker.v1.ErrorReason;

/** Callers branch on the reason. */
class FailuresTest {
    /** Else a reason that the broker has could reach callers as UNRECOGNIZED. */
    @Test
    void everyReasonOfTheApiIsKnown() {
        var ours = Arrays.stream(Reason.values()).map(Reason::name).collect(Collectors.toSet());
        var missing =
                EnumSet.complementOf(EnumSet.of(ErrorReason.ERROR_REASON_UNSPECIFIED, ErrorReason.UNRECOGNIZED))
                        .stream()
                        .map(reason -> reason.name().substring("ERROR_REASON_".length()))
                        .filter(name -> !ours.contains(name))
                        .toList();
        assertTrue(missing.isEmpty(), missing::toString);
    }

    /** The broker's word, and when to come again. */
    @Test
    void reasonAndRetryDelayComeFromTheDetails() {
        var failure =
                Failures.of(FakeBroker.status(Status.Code.UNAVAILABLE, "tokenbroker.v1", "PROVIDER_UNAVAILABLE", 3));
        assertEquals(Reason.PROVIDER_UNAVAILABLE, failure.reason());
        assertEquals(Status.Code.UNAVAILABLE, failure.code());
        assertEquals(Optional.of(Duration.ofSeconds(3)), failure.retryAfter());
        assertEquals("PROVIDER_UNAVAILABLE: said the broker", failure.getMessage());
    }

    /** A proxy's ErrorInfo is not the broker's; a newer broker has reasons of its own. */
    @ParameterizedTest
    @CsvSource({
        "someone.else, INSTALL_NOT_FOUND, NOT_FOUND, UNRECOGNIZED",
        "someone.else, INSTALL_NOT_FOUND, UNAVAILABLE, BROKER_UNREACHABLE",
        "tokenbroker.v1, OF_TOMORROW, UNAVAILABLE, UNRECOGNIZED"
    })
    void unknownDomainsAndReasonsAreNotTakenForTheBrokers(String domain, String reason, Status.Code code, Reason seen) {
        assertEquals(
                seen, Failures.of(FakeBroker.status(code, domain, reason, 0)).reason());
    }

    /** Without ErrorInfo nobody but gRPC has spoken. */
    @ParameterizedTest
    @CsvSource({
        "UNAVAILABLE, BROKER_UNREACHABLE",
        "DEADLINE_EXCEEDED, DEADLINE_EXCEEDED",
        "UNKNOWN, UNRECOGNIZED",
        "CANCELLED, UNRECOGNIZED"
    })
    void statusWithoutDetailsHasTheClientsOwnReason(Status.Code code, Reason seen) {
        assertEquals(seen, Failures.of(code.toStatus().asRuntimeException()).reason());
    }

    /** Details come from outside: they must not break the one who reads them. */
    @Test
    void detailsThatCantBeReadLeaveTheCode() {
        var trailers = new Metadata();
        trailers.put(
                Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[] {-1, -1, -1});
        var failure = Failures.of(new StatusRuntimeException(Status.UNAVAILABLE, trailers));
        assertEquals(Reason.BROKER_UNREACHABLE, failure.reason());
    }

    /** A number from outside that overflowed would leave whoever waits without an answer. */
    @ParameterizedTest
    @CsvSource({"-1, 0, 0", "0, -1, 0", "9223372036854775807, 999999999, 31622400", "3, 5, 3"})
    void durationsFromOutsideAreBounded(long seconds, int nanos, long seen) {
        var duration = com.google.protobuf.Duration.newBuilder()
                .setSeconds(seconds)
                .setNanos(nanos)
                .build();
        assertEquals(seen, Failures.duration(duration).toSeconds());
    }
}
