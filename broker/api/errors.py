"""The one table from the domain's errors to gRPC statuses."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from broker.domain import errors
from tokenbroker.v1 import error_reason_pb2, token_broker_pb2

ERROR_DOMAIN: Final = "tokenbroker.v1"
REASON_PREFIX: Final = "ERROR_REASON_"
DETAILS_KEY: Final = "grpc-status-details-bin"
# Tells a gRPC client that retries by its service config when to, and a negative number: not at all (gRPC's proposal A6).
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
NO_RETRY: Final = "-1"


class InternalError(errors.BrokerError):
    """The broker's fault. What happened stands in its log."""

    def __init__(self) -> None:
        super().__init__("the broker failed; its log says why")


_Reason = error_reason_pb2.ErrorReason
_TABLE: Final[dict[type[errors.BrokerError], tuple[grpc.StatusCode, "_Reason.ValueType"]]] = {
    errors.InvalidField: (grpc.StatusCode.INVALID_ARGUMENT, _Reason.ERROR_REASON_INVALID_FIELD),
    errors.SignatureRefused: (grpc.StatusCode.UNAUTHENTICATED, _Reason.ERROR_REASON_SIGNATURE_REFUSED),
    errors.CallerNotAllowed: (grpc.StatusCode.PERMISSION_DENIED, _Reason.ERROR_REASON_CALLER_NOT_ALLOWED),
    errors.CallerUnauthenticated: (
        grpc.StatusCode.UNAUTHENTICATED,
        _Reason.ERROR_REASON_CALLER_UNAUTHENTICATED,
    ),
    errors.InstallNotFound: (grpc.StatusCode.NOT_FOUND, _Reason.ERROR_REASON_INSTALL_NOT_FOUND),
    errors.ReauthorizationRequired: (
        grpc.StatusCode.FAILED_PRECONDITION,
        _Reason.ERROR_REASON_REAUTHORIZATION_REQUIRED,
    ),
    errors.ClientCredentialsRefused: (
        grpc.StatusCode.FAILED_PRECONDITION,
        _Reason.ERROR_REASON_CLIENT_CREDENTIALS_REFUSED,
    ),
    errors.ProviderUnavailable: (grpc.StatusCode.UNAVAILABLE, _Reason.ERROR_REASON_PROVIDER_UNAVAILABLE),
    errors.StoreUnavailable: (grpc.StatusCode.UNAVAILABLE, _Reason.ERROR_REASON_STORE_UNAVAILABLE),
    errors.Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, _Reason.ERROR_REASON_OVERLOADED),
    errors.AuditUnavailable: (grpc.StatusCode.UNAVAILABLE, _Reason.ERROR_REASON_AUDIT_UNAVAILABLE),
    errors.ShuttingDown: (grpc.StatusCode.UNAVAILABLE, _Reason.ERROR_REASON_SHUTTING_DOWN),
}
_OURS: Final = (grpc.StatusCode.INTERNAL, _Reason.ERROR_REASON_INTERNAL)


@dataclass(frozen=True, slots=True)
class Description:
    """An error as the API tells it. `field` is "" and `retry_after` None where they say nothing."""

    code: grpc.StatusCode
    reason: "_Reason.ValueType"
    message: str
    field: str
    problem: str
    retry_after: timedelta | None

    @property
    def code_number(self) -> int:
        """The status code as a number."""
        return int(self.code.value[0])


def describe(error: errors.BrokerError) -> Description:
    """`error` as the API tells it. What the table lacks is our fault, and tells nothing."""
    code, reason = _TABLE.get(type(error), _OURS)
    known = (code, reason) != _OURS
    return Description(
        code=code,
        reason=reason,
        message=str(error) if known else str(InternalError()),
        field=getattr(error, "field", ""),
        problem=getattr(error, "problem", str(error)) if known else "",
        retry_after=error.retry_after if isinstance(error, errors.RetryableError) else None,
    )


def status_details(description: Description) -> bytes:
    """A google.rpc.Status with ErrorInfo, and BadRequest and RetryInfo where they apply, serialized."""
    reason = error_reason_pb2.ErrorReason.Name(description.reason).removeprefix(REASON_PREFIX)
    metadata = {"field": description.field} if description.field else {}
    status = status_pb2.Status(code=description.code_number, message=description.message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    if description.code is grpc.StatusCode.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=description.field, description=description.problem
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if description.retry_after is not None:
        retry_delay = duration_pb2.Duration()
        retry_delay.FromTimedelta(description.retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=retry_delay))
    return bytes(status.SerializeToString())


def trailers(description: Description) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata of a call that fails so.

    Envoy is as unavailable to the other replicas: a retry within the same call would only multiply what they bear.
    """
    details = (DETAILS_KEY, status_details(description))
    if description.reason == _Reason.ERROR_REASON_PROVIDER_UNAVAILABLE:
        return (details, (PUSHBACK_KEY, NO_RETRY))
    return (details,)


def failure_message(error: errors.BrokerError) -> token_broker_pb2.TokenFailure:
    """`error` as a message, for replies that hold several results."""
    description = describe(error)
    failure = token_broker_pb2.TokenFailure(
        code=description.code_number,
        reason=description.reason,
        message=description.message,
        field=description.field,
    )
    if description.retry_after is not None:
        failure.retry_delay.FromTimedelta(description.retry_after)
    return failure
