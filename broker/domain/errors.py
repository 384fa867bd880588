"""What can go wrong, by whose fault it is.

An error's text is for people and never holds a secret or the value of a refused field.
`api/errors.py` has the one table from these to gRPC statuses, `web/ingress.py` the one to HTTP.
"""

from datetime import timedelta


class BrokerError(Exception):
    """The root of every error that a caller can be told of."""


class CallerError(BrokerError):
    """The caller's fault: the same request fails again."""


class InvalidField(CallerError):
    """A field is missing, malformed or out of range.

    Attributes:
        field: its name, as the API spells it.
        problem: what is wrong with it, without its value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


class SignatureRefused(CallerError):
    """A webhook's X-Envoy-Signature is missing or does not fit its body."""

    field = "signature"

    def __init__(self) -> None:
        super().__init__(
            "the webhook's X-Envoy-Signature is missing or does not fit its body; "
            "pass on body and header byte for byte, and check the app's client secret"
        )


class CallerUnauthenticated(CallerError):
    """The caller has not proved who it is.

    Attributes:
        why: for the log, one of a few lower-case words; the caller is not told.
    """

    def __init__(self, why: str) -> None:
        super().__init__("present a client certificate or a bearer token that this broker takes")
        self.why = why


class CallerNotAllowed(CallerError):
    """The caller may not do this to any install."""


class InstallNotFound(CallerError):
    """There is no such install, or the caller may not use it: both look the same."""

    def __init__(self) -> None:
        super().__init__("no such install, or not yours to use; check plugin_id and install_id")


class ReauthorizationRequired(BrokerError):
    """Envoy gives no tokens for this install until its company goes through the app's setup again."""

    def __init__(self) -> None:
        super().__init__(
            "Envoy refuses tokens for this install; the company must open the app's setup in Envoy again"
        )


class ClientCredentialsRefused(BrokerError):
    """Envoy refuses the app's own client id and secret, whatever the install."""

    def __init__(self) -> None:
        super().__init__("Envoy refuses the app's client id or client secret; the operator must correct them")


class RetryableError(BrokerError):
    """Nobody's request is wrong: the same one may succeed later.

    Attributes:
        retry_after: when to try again, from now.
    """

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = max(retry_after, timedelta(0))


class ProviderUnavailable(RetryableError):
    """Envoy can't be reached, fails or limits us, and no valid token is left."""


class StoreUnavailable(RetryableError):
    """The database can't be reached, can't be written, or answers too slowly."""


class Overloaded(RetryableError):
    """The broker has as much to do as it can bear."""


class ShuttingDown(RetryableError):
    """The broker was asked to stop and takes no new work."""


class AuditUnavailable(RetryableError):
    """What was asked could not be put on record, so it was not done."""


class SealBroken(BrokerError):
    """A sealed token does not open: a wrong or missing key, or a ciphertext that was moved or changed."""


class ProviderFault(Exception):
    """How a request to Envoy's token endpoint failed. Raised by the TokenEndpoint port alone.

    Attributes:
        kind: a short lower-case name for logs, metrics and `RefreshFailure.kind`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class NotSent(ProviderFault):
    """The request never left: nothing was spent."""


class Limited(ProviderFault):
    """Envoy answered 429: nothing was spent.

    Attributes:
        retry_after: what Retry-After asked for, if it was there and could be read.
    """

    def __init__(self, retry_after: timedelta | None) -> None:
        super().__init__("rate_limited")
        self.retry_after = retry_after


class GrantRefused(ProviderFault):
    """Envoy refused what was presented, the refresh token or the install: nothing was spent."""


class ClientRefused(ProviderFault):
    """Envoy refused the app's client id or secret: nothing was spent.

    Attributes:
        named: Envoy said so in RFC 6749's words, and not by a bare 401.
    """

    def __init__(self, kind: str, *, named: bool = False) -> None:
        super().__init__(kind)
        self.named = named


class OutcomeUnknown(ProviderFault):
    """Envoy may have acted: a time-out, a 5xx, or an answer nobody can read.

    Attributes:
        retry_after: what Retry-After asked for, if it was there and could be read.
    """

    def __init__(self, kind: str, retry_after: timedelta | None = None) -> None:
        super().__init__(kind)
        self.retry_after = retry_after


class CompanyMismatch(ProviderFault):
    """Envoy issued a pair for another company than the install's: it must not be handed out."""

    def __init__(self) -> None:
        super().__init__("company_mismatch")
