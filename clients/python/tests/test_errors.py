"""From statuses to errors."""

import pickle

import grpc
import pytest

from clients.python.tests.fake_broker import details
from tokenbroker.client import Reason, TokenBrokerError
from tokenbroker.client.errors import Failure
from tokenbroker.client.statuses import failure_of, reason_of
from tokenbroker.v1 import token_broker_pb2
from tokenbroker.v1.error_reason_pb2 import ErrorReason

OWN = {Reason.BROKER_UNREACHABLE, Reason.DEADLINE_EXCEEDED, Reason.UNRECOGNIZED}


class Ended:
    """A call that has failed."""

    def __init__(self, code: grpc.StatusCode, *trailers: tuple[str, str | bytes]) -> None:
        self._code, self._trailers = code, trailers

    def code(self) -> grpc.StatusCode:
        """See EndedCall."""
        return self._code

    def details(self) -> str:
        """See EndedCall."""
        return "said somebody"

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """See EndedCall."""
        return self._trailers


def explained(code: grpc.StatusCode, detail: bytes) -> Failure:
    """What such a call failed with."""
    return failure_of(Ended(code, ("grpc-status-details-bin", detail)))


def test_reasons_are_the_apis_and_three_more() -> None:
    """A reason of the next release must not be missing here."""
    apis = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }
    assert set(Reason) == apis | OWN


def test_reason_and_delay_come_from_the_details() -> None:
    """What a caller branches on."""
    failure = explained(grpc.StatusCode.RESOURCE_EXHAUSTED, details("OVERLOADED", retry_after=3.2))
    assert failure == (Reason.OVERLOADED, grpc.StatusCode.RESOURCE_EXHAUSTED, "said somebody", 3.2)


@pytest.mark.parametrize(
    "detail",
    [details("INSTALL_NOT_FOUND", domain="proxy.example"), details("A_NEWER_ONE"), b"\xff\xff", b""],
    ids=["another domain", "a newer reason", "no message", "no detail"],
)
def test_what_is_not_known_is_unrecognized(detail: bytes) -> None:
    """Another's INSTALL_NOT_FOUND must not cost a token; bad bytes must not cost an answer."""
    assert explained(grpc.StatusCode.NOT_FOUND, detail).reason is Reason.UNRECOGNIZED


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.BROKER_UNREACHABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.NOT_FOUND, Reason.UNRECOGNIZED),
    ],
)
def test_status_that_nobody_explains(code: grpc.StatusCode, reason: Reason) -> None:
    """A NOT_FOUND of some proxy is none of the broker's."""
    assert failure_of(Ended(code)).reason is reason


def test_negative_delay_is_none_at_all() -> None:
    """A wait that lies in the past must not turn into a loop."""
    assert explained(grpc.StatusCode.UNAVAILABLE, details("OVERLOADED", retry_after=-5)).retry_after == 0


def test_failure_in_a_message_has_the_same_reasons() -> None:
    """The stream tells failures by number."""
    failure = token_broker_pb2.TokenFailure(reason=ErrorReason.ERROR_REASON_INSTALL_NOT_FOUND)
    assert reason_of(failure) is Reason.INSTALL_NOT_FOUND
    failure.reason = 999  # type: ignore[assignment] # a newer broker's
    assert reason_of(failure) is Reason.UNRECOGNIZED


@pytest.mark.parametrize("reason", Reason)
def test_error_says_reason_and_message_and_crosses_processes(reason: Reason) -> None:
    """Worker pools pickle errors; one that can't be kills the pool."""
    error = Failure(reason, grpc.StatusCode.UNKNOWN, "a sentence", 1.5).error()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made a moment ago
    assert isinstance(again, TokenBrokerError)
    assert (type(again), str(again), again.retry_after) == (type(error), f"{reason}: a sentence", 1.5)
