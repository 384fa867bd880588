"""Why there is no token: one type of error, with a reason to branch on."""

from enum import StrEnum
from typing import Final, NamedTuple

import grpc

from tokenbroker.client.token import Seconds


class Reason(StrEnum):
    """An ErrorReason of the API without its prefix, or one of the client's own, which are the last three."""

    INSTALL_NOT_FOUND = "INSTALL_NOT_FOUND"
    REAUTHORIZATION_REQUIRED = "REAUTHORIZATION_REQUIRED"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    CLIENT_CREDENTIALS_REFUSED = "CLIENT_CREDENTIALS_REFUSED"
    INVALID_FIELD = "INVALID_FIELD"
    SIGNATURE_REFUSED = "SIGNATURE_REFUSED"
    OVERLOADED = "OVERLOADED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    CALLER_NOT_ALLOWED = "CALLER_NOT_ALLOWED"
    CALLER_UNAUTHENTICATED = "CALLER_UNAUTHENTICATED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INTERNAL = "INTERNAL"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    BROKER_UNREACHABLE = "BROKER_UNREACHABLE"
    """The code is UNAVAILABLE, and no broker has said why."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    """No answer came in time: within the caller's own time, or that of a call."""
    UNRECOGNIZED = "UNRECOGNIZED"
    """None that this release of the client knows. The code and the message say more."""


class TokenBrokerError(Exception):
    """There is no token. What a caller may want to tell apart is a subclass; for the rest, `reason` says it.

    Attributes:
        reason: branch on it.
        code: gRPC's.
        message: a sentence for people.
        retry_after: seconds after which a retry may help, None if the broker did not say.
    """

    def __init__(
        self, reason: Reason, code: grpc.StatusCode, message: str, retry_after: Seconds | None = None
    ) -> None:
        super().__init__(reason, code, message, retry_after)
        self.reason = reason
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class InstallNotFound(TokenBrokerError):
    """There is no such install, or the caller may not use it: the two look the same."""


class ReauthorizationRequired(TokenBrokerError):
    """Somebody at the company must open the app in Envoy and go through its setup again."""


class CallerNotAllowed(TokenBrokerError):
    """The caller may not do this to any install."""


class ProviderUnavailable(TokenBrokerError):
    """Envoy can't be reached, fails, or limits the broker. `retry_after` says when to come again."""


class BrokerUnreachable(TokenBrokerError):
    """No replica of the broker could be reached."""


class DeadlineExceeded(TokenBrokerError):
    """No answer came in time. The call may still go on, for others and for the memory."""


_KINDS: Final[dict[Reason, type[TokenBrokerError]]] = {
    Reason.INSTALL_NOT_FOUND: InstallNotFound,
    Reason.REAUTHORIZATION_REQUIRED: ReauthorizationRequired,
    Reason.CALLER_NOT_ALLOWED: CallerNotAllowed,
    Reason.PROVIDER_UNAVAILABLE: ProviderUnavailable,
    Reason.BROKER_UNREACHABLE: BrokerUnreachable,
    Reason.DEADLINE_EXCEEDED: DeadlineExceeded,
}


class Failure(NamedTuple):
    """What a call failed with. Each who waits raises an error of his own: a shared one would collect tracebacks."""

    reason: Reason
    code: grpc.StatusCode
    message: str
    retry_after: Seconds | None = None

    def error(self) -> TokenBrokerError:
        """As an error to raise."""
        return _KINDS.get(self.reason, TokenBrokerError)(*self)


CLOSED: Final = Failure(Reason.UNRECOGNIZED, grpc.StatusCode.CANCELLED, "the client was closed")
GIVEN_UP: Final = Failure(
    Reason.DEADLINE_EXCEEDED, grpc.StatusCode.DEADLINE_EXCEEDED, "no answer came within the caller's time"
)


def not_made(error: BaseException) -> Failure:
    """The failure of a call that ended in another way than calls do."""
    return Failure(Reason.UNRECOGNIZED, grpc.StatusCode.UNKNOWN, f"the call could not be made: {error!r}")
