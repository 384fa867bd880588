"""What a refused call says, and that it says nothing that it must not."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc
import grpc.aio
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2

from tests.integration.served_broker import ServedBroker
from tokenbroker.v1 import error_reason_pb2

# Stands in every bad value, so that a test can look for it.
MARK: Final = "do-not-show-me"
ERROR_DOMAIN: Final = "tokenbroker.v1"
DETAILS_KEY: Final = "grpc-status-details-bin"


@dataclass(frozen=True)
class Refusal:
    """A status with its details.

    Attributes:
        field: of ErrorInfo's metadata; "" without one.
        violations: the fields of BadRequest.
        retry_after: of RetryInfo.
        text: all that the caller can see of it, details and trailers included.
    """

    code: grpc.StatusCode
    reason: str
    field: str
    violations: list[str]
    retry_after: timedelta | None
    message: str
    text: str


async def refusal_of(call: Awaitable[object]) -> Refusal:
    """How the call is refused. Fails if it is not, or without an ErrorInfo that the API knows."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return read_refusal(refused.value)


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """The parts of an error."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    kinds = [detail.TypeName() for detail in status.details]
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(bad_request) or detail.Unpack(retry_info)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    assert info.domain == ERROR_DOMAIN
    assert f"ERROR_REASON_{info.reason}" in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    return Refusal(
        code=error.code(),
        reason=info.reason,
        field=info.metadata.get("field", ""),
        violations=[violation.field for violation in bad_request.field_violations],
        retry_after=retry_info.retry_delay.ToTimedelta() if "google.rpc.RetryInfo" in kinds else None,
        message=status.message,
        text=f"{error.details()} {error.debug_error_string()} {trailers} {status}",
    )


def assert_invalid(refusal: Refusal, field: str) -> None:
    """INVALID_ARGUMENT, INVALID_FIELD, and the field in both details."""
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), (
        refusal.message
    )
    assert (refusal.field, refusal.violations) == (field, [field])
    assert field in refusal.message


async def refused_without_a_trace(
    broker: ServedBroker, capture: pytest.CaptureFixture[str], call: Awaitable[object]
) -> Refusal:
    """The refusal of a call that left rows and ledger alone, and showed no MARK to the caller or in a log."""
    async with nothing_changes(broker, capture):
        refusal = await refusal_of(call)
    assert MARK not in refusal.text
    return refusal


@asynccontextmanager
async def nothing_changes(broker: ServedBroker, capture: pytest.CaptureFixture[str]) -> AsyncIterator[None]:
    """The block changes no row, sends nothing to Envoy, and prints or logs no MARK."""
    before = broker.rows(), await broker.envoy.ledger()
    with structlog.testing.capture_logs() as logged:
        yield
    assert (broker.rows(), await broker.envoy.ledger()) == before
    output = capture.readouterr()
    assert MARK not in f"{output.out}{output.err}{logged!r}"
