"""Everybody is served, and nothing goes on record: what TOKEN_BROKER_INSECURE_SERVE_ANYBODY asks for, on loopback only."""

from broker.domain.audit import AuditRecord
from broker.domain.callers import Caller, Credentials, KnownBy, Operation, Subject
from broker.domain.secret import Secret

_ANYBODY = Caller("anybody", KnownBy.NOTHING)


class AnybodyCalls:
    """The Authenticator port, for who asks nobody's name."""

    async def authenticate(self, credentials: Credentials) -> Caller:  # noqa: ARG002  # nobody looks at them
        return _ANYBODY


class EverythingAllowed:
    """The Authorizer port, for who has no policy."""

    version = "everything-allowed"

    def allows(self, caller: Caller, operation: Operation, subject: Subject) -> bool:  # noqa: ARG002  # no policy
        return True


class NoRecord:
    """The AuditLog port, for who keeps none."""

    async def write(self, record: AuditRecord) -> None:
        pass

    def fingerprint(self, token: Secret) -> str:  # noqa: ARG002  # nobody will read it
        return ""
