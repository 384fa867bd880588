"""From what gRPC says of a failed call to a Failure."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from tokenbroker.client.errors import Failure, Reason
from tokenbroker.client.token import Seconds
from tokenbroker.v1 import error_reason_pb2, token_broker_pb2

ERROR_DOMAIN: Final = "tokenbroker.v1"
DETAILS_KEY: Final = "grpc-status-details-bin"
REASON_PREFIX: Final = "ERROR_REASON_"
NANOS: Final = 1e9

# What a status means that no broker has explained.
_UNEXPLAINED: Final = {
    grpc.StatusCode.UNAVAILABLE: Reason.BROKER_UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
}


class EndedCall(Protocol):
    """What the errors of grpc and of grpc.aio have in common."""

    def code(self) -> grpc.StatusCode:
        """Its status."""

    def details(self) -> str | None:
        """Its message."""

    def trailing_metadata(self) -> Iterable[Any] | None:
        """Where the reason is."""


def failure_of(call: EndedCall) -> Failure:
    """What a call failed with. Details that can't be read, or are another API's, are as none."""
    code = call.code()
    reason, retry_after = _UNEXPLAINED.get(code, Reason.UNRECOGNIZED), None
    for detail in _details(call.trailing_metadata() or ()):
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            reason = _reason_named(info.reason)
        elif detail.Unpack(retry):
            retry_after = seconds_of(retry.retry_delay)
    return Failure(reason, code, call.details() or code.name, retry_after)


def reason_of(failure: token_broker_pb2.TokenFailure) -> Reason:
    """The reason of a failure that came as a message."""
    names = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_number
    value = names.get(failure.reason)
    return _reason_named(value.name.removeprefix(REASON_PREFIX)) if value else Reason.UNRECOGNIZED


def seconds_of(duration: Duration) -> Seconds:
    """A duration, never negative."""
    return max(0.0, duration.seconds + duration.nanos / NANOS)


def _details(trailers: Iterable[tuple[str, str | bytes]]) -> list[any_pb2.Any]:
    for key, value in trailers:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []


def _reason_named(name: str) -> Reason:
    try:
        return Reason(name)
    except ValueError:
        return Reason.UNRECOGNIZED
