"""Decides by the policy in force."""

import structlog

from broker.adapters.policy.policy import Decision, Policy, one_line
from broker.domain.callers import Caller, Operation, Subject

log = structlog.get_logger(__name__)


class CedarAuthorizer:
    """The Authorizer port. It remembers no decisions: who asks often does, for as long as the version stands."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._has_complained = False

    @property
    def version(self) -> str:
        return self._policy.version

    def adopt(self, policy: Policy) -> None:
        """Decide by another policy from now on."""
        self._policy = policy
        self._has_complained = False

    def allows(self, caller: Caller, operation: Operation, subject: Subject) -> bool:
        try:
            decision = self._policy.decide(caller, operation, subject)
        except Exception as error:  # noqa: BLE001 (the port never raises, and Cedar is not ours)
            decision = Decision(allowed=False, rules=(), errors=(type(error).__name__,))
        if decision.errors:
            self._complain(operation, decision)
        return decision.allowed

    def _complain(self, operation: Operation, decision: Decision) -> None:
        """Once for each policy: callers can make this happen as often as they like."""
        if self._has_complained:
            return
        self._has_complained = True
        log.warning(
            "policy.not_decided",
            operation=one_line(operation),
            errors=decision.errors,
            version=self._policy.version,
        )
