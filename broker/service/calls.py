"""Calls: who calls, whether they may, and that it goes on record.

The API makes a Call for each RPC, and every use case is given one. A use case says which install it is about as soon as
that is named, asks `require` as soon as it knows the install, before it does or tells anything else, and hands a token
out by `hand_out`, which returns when that is on record (P7). To a caller who may not, an install is one that does not
exist (P6): the same error, and the API lets both take the same time.
"""

import itertools
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Final

from broker.domain.audit import AuditRecord
from broker.domain.callers import Caller, Operation, Subject
from broker.domain.errors import BrokerError, InstallNotFound
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Install
from broker.ports import AuditLog, Authorizer
from broker.service.token_cache import Entry
from broker.telemetry import spans

# Outcomes on record beside the names of errors. BEGUN stands before what can't be undone, and another line behind it.
OK: Final = "OK"
BEGUN: Final = "BEGUN"
DENIED: Final = "DENIED"

_WORDS: Final = re.compile(r"(?<!^)(?=[A-Z])")
_NOTHING_YET: Final = Subject("")
# No install can be called so. A policy gives it who gives all of an app's, and not who names installs or companies.
_WHICHEVER: Final = "…"
_Question = tuple[Caller, Operation, Subject]


class Guard:
    """The policy's decisions, remembered as long as the policy stands; and the record."""

    def __init__(self, authorizer: Authorizer, audit: AuditLog, *, max_decisions: int) -> None:
        self._authorizer = authorizer
        self.audit = audit
        self._max_decisions = max_decisions
        self._decisions: OrderedDict[_Question, bool] = OrderedDict()
        self._version = authorizer.version
        self._process = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    @property
    def policy_version(self) -> str:
        """Of the policy in force."""
        return self._authorizer.version

    def begin(self, caller: Caller, operation: Operation, *, address: str = "", trace_id: str = "") -> "Call":
        """A call that has just come in."""
        request_id = f"{self._process}-{next(self._numbers)}"
        return Call(self, caller, operation, address=address, trace_id=trace_id, request_id=request_id)

    def allows(self, caller: Caller, operation: Operation, subject: Subject) -> bool:
        """What the policy says, asked once for each caller, operation and subject."""
        if self._authorizer.version != self._version:
            self._decisions.clear()
            self._version = self._authorizer.version
        question = (caller, operation, subject)
        allowed = self._decisions.get(question)
        if allowed is None:
            with spans.in_span(spans.POLICY, **{spans.OPERATION: operation.value}) as span:
                allowed = self._decisions[question] = self._authorizer.allows(caller, operation, subject)
                span.set_attribute(spans.ALLOWED, allowed)
            if len(self._decisions) > self._max_decisions:
                self._decisions.popitem(last=False)
        return allowed


class Call:
    """One call under way, for one install. Attributes: caller, operation: who, and what for."""

    __slots__ = (
        "_address",
        "_generation",
        "_guard",
        "_is_denied",
        "_is_recorded",
        "_request_id",
        "_subject",
        "_trace_id",
        "caller",
        "operation",
    )

    def __init__(
        self,
        guard: Guard,
        caller: Caller,
        operation: Operation,
        *,
        address: str,
        trace_id: str,
        request_id: str,
    ) -> None:
        self._guard = guard
        self.caller = caller
        self.operation = operation
        self._address = address
        self._trace_id = trace_id
        self._request_id = request_id
        self._subject = _NOTHING_YET
        self._generation = 0
        self._is_denied = self._is_recorded = False

    def part(self) -> "Call":
        """The same call, for one more install: of a batch each is judged, and goes on record, by itself."""
        self._is_recorded = True
        return Call(
            self._guard,
            self.caller,
            self.operation,
            address=self._address,
            trace_id=self._trace_id,
            request_id=self._request_id,
        )

    def concerns(self, key: InstallKey) -> None:
        """The caller has named this install, which may not exist."""
        self._subject = Subject(*key)

    def may_see(self, install: Install) -> bool:
        """Whether the policy gives the caller this install, for a list; nothing goes on record."""
        return self._guard.allows(self.caller, self.operation, _subject_of(install))

    def may_see_app(self, plugin_id: str) -> bool:
        """Whether the policy gives the caller any install of the app, whichever, for counts; nothing goes on record."""
        return self._guard.allows(self.caller, self.operation, Subject(plugin_id, _WHICHEVER))

    def require(self, install: Install) -> None:
        """Go on only if the policy gives the caller this install.

        Raises:
            InstallNotFound: it does not.
        """
        self._generation = install.generation
        self._require(_subject_of(install))

    def require_app(self, plugin_id: str, operation: Operation | None = None) -> None:
        """Go on only if the policy gives the caller the operation (its own, or another) for the app as a whole.

        Raises:
            InstallNotFound: it does not.
        """
        self.operation = operation or self.operation
        self._require(Subject(plugin_id))

    async def hand_out(self, entry: Entry) -> None:
        """Return when it is on record that the caller gets this token.

        Raises:
            AuditUnavailable: it is not; the token must not leave.
        """
        token = entry.holding.access_token
        if entry.fingerprint is None and token is not None:
            entry.fingerprint = self._guard.audit.fingerprint(token)
        self._generation = entry.holding.install.generation
        await self._record(OK, entry.fingerprint or "")

    async def begun(self) -> None:
        """Return when it is on record that what can't be undone is about to be done.

        Raises:
            AuditUnavailable: it is not; it must not be done.
        """
        await self._record(BEGUN)
        self._is_recorded = False

    async def end(self, error: BrokerError | None = None) -> None:
        """Return when it is on record how the call ended. Nothing more is written where it stands there already.

        Raises:
            AuditUnavailable.
        """
        if error is not None:
            await self._record(DENIED if self._is_denied else _outcome_of(error))
        elif not self._is_recorded:
            await self._record(OK)

    def _require(self, subject: Subject) -> None:
        self._subject = subject
        if not self._guard.allows(self.caller, self.operation, subject):
            self._is_denied = True
            raise InstallNotFound

    def _record(self, outcome: str, token_fingerprint: str = "") -> Awaitable[None]:
        """What to wait for until it is on record."""
        self._is_recorded = True
        return self._guard.audit.write(
            AuditRecord(
                at=datetime.now(UTC),
                request_id=self._request_id,
                trace_id=self._trace_id,
                caller=self.caller,
                address=self._address,
                operation=self.operation,
                subject=self._subject,
                generation=self._generation,
                outcome=outcome,
                policy_version=self._guard.policy_version,
                token_fingerprint=token_fingerprint,
            )
        )


def _outcome_of(error: BrokerError) -> str:
    """The error's name as the API's reasons are written: INSTALL_NOT_FOUND."""
    return _WORDS.sub("_", type(error).__name__).upper()


def _subject_of(install: Install) -> Subject:
    key = install.key
    return Subject(key.plugin_id, key.install_id, install.company_id)
