"""Whether Envoy is to be called for an app, and how often: one record an app, shared by every replica.

THE BUDGET is a bucket of calls that fills at a fixed rate. Replicas lease calls from it ahead of need, so that
a refresh does not pay a transaction for it. Nobody waits for the scheduler's calls, so they leave a reserve
in the bucket for those that a caller waits for.

THE CIRCUIT is closed while Envoy serves. It opens at once when Envoy asks for patience (429 or 503 with or without
Retry-After) or refuses the app itself, and else when several installs have failed in a row: one poisoned install
never opens it. While it is open nobody calls. When its time is over, one call is let through as a probe: it closes
the circuit or opens it for longer. After it has closed the rate grows slowly: Envoy is back, and not yet strong.

All times are the database's, as the record's `now` is: replicas need not agree on theirs.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker.domain.backoff import full_jitter
from broker.domain.errors import ClientRefused, Limited, OutcomeUnknown, ProviderFault

# Failure.kind of a refused client, whatever words Envoy had for it.
CLIENT_REFUSED: Final = "client_refused"
# Failing installs in a row that open the circuit. A refused client says itself that every install is concerned.
INSTALLS_TO_OPEN: Final = 5
INSTALLS_TO_OPEN_IF_REFUSED: Final = 2
# The first opening's back-off is drawn as after this many failures (see backoff.py): seconds, not a fraction of one.
FIRST_OPENING: Final = 4
# An app that nobody has called for yet has a full bucket, whatever that is.
FIRST_LEVEL: Final = 1e9
# How often those look who are turned away while another's probe is made.
PROBE_LOOK: Final = timedelta(milliseconds=500)
# The bucket holds what comes in this time, so that a burst after a quiet time stays small.
BURST: Final = timedelta(seconds=1)
# Of the bucket, what calls that nobody waits for leave to the others.
RESERVE_SHARE: Final = 0.2
# After the circuit has closed, the rate grows from this share to the whole over this time.
RAMP: Final = timedelta(seconds=30)
RAMP_FROM: Final = 0.1


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """Attributes: calls_per_second: the budget of all replicas. probe_life: when a probe counts as lost."""

    calls_per_second: float
    probe_life: timedelta


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """What the replicas know together.

    Attributes:
        level: calls left in the bucket at `level_at`.
        failing: installs that failed in a row with no success in between; `last_failing` is the last of them.
        kind: of the fault that counts now, "" if all is well.
        openings: how often the circuit has opened since it was last closed; 0 while it is closed.
        open_until: when a probe may be made.
        probe_until: when the probe under way counts as lost.
        closed_at: when the circuit last closed.
    """

    level: float
    level_at: datetime
    failing: int = 0
    last_failing: str = ""
    kind: str = ""
    openings: int = 0
    open_until: datetime | None = None
    probe_until: datetime | None = None
    closed_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are held back; also while a probe is made."""
        return self.open_until is not None

    @property
    def is_ailing(self) -> bool:
        """Whether a success would change the record. On a healthy one it need not be told."""
        return self.is_open or self.failing > 0


@dataclass(frozen=True, slots=True)
class Lease:
    """What a replica may do now.

    Attributes:
        calls: how many calls it may begin.
        retry_in: when to ask again, if that is fewer than it wanted.
        circuit: the kind of the fault for which the circuit is open; "" while it is closed.
        ailing: whether a success would change the record (see `is_ailing`).
    """

    calls: int
    retry_in: timedelta
    circuit: str
    ailing: bool


def first_health(now: datetime) -> ProviderHealth:
    """The record of an app that nobody has called for yet."""
    return ProviderHealth(level=FIRST_LEVEL, level_at=now)


def leased(
    health: ProviderHealth,
    want: int,
    *,
    urgent: bool,
    limits: ProviderLimits,
    now: datetime,
    insist: bool = False,
) -> tuple[ProviderHealth, Lease]:
    """The record after a replica asked for `want` calls, and what it may do. `urgent`: somebody waits.

    `insist`: an operator or a webhook asks, perhaps just after the client secret was mended. A circuit that is open for
    a refused client is then probed at once. Where Envoy asked for patience nobody insists.
    """
    if health.open_until is not None:
        opens_at = now if insist and health.kind == CLIENT_REFUSED else health.open_until
        if now < opens_at:
            return health, Lease(0, opens_at - now, health.kind, ailing=True)
        if health.probe_until is not None and now < health.probe_until:
            # It may succeed any moment.
            wait = min(health.probe_until - now, PROBE_LOOK)
            return health, Lease(0, wait, health.kind, ailing=True)
        probed = replace(health, probe_until=now + limits.probe_life)
        return probed, Lease(1, limits.probe_life, "", ailing=True)
    burst, rate = _burst(limits), limits.calls_per_second * _strength(health, now)
    level = _level(health, limits, now)
    reserve = 0.0 if urgent else min(burst * RESERVE_SHARE, burst - 1)
    calls = max(0, min(want, int(level - reserve)))
    missing = max(0.0, reserve + 1 - (level - calls))
    retry_in = timedelta(seconds=missing / rate)
    return replace(health, level=level - calls, level_at=now), Lease(calls, retry_in, "", health.is_ailing)


def calls_left(health: ProviderHealth, limits: ProviderLimits, now: datetime) -> float:
    """How many calls are left in the budget; none while the circuit is open."""
    return 0.0 if health.is_open else _level(health, limits, now)


def after_answer(
    health: ProviderHealth,
    install_id: str,
    fault: ProviderFault | None,
    *,
    now: datetime,
    fraction: float,
) -> ProviderHealth:
    """The record after a call ended: Envoy served (None), or `fault`. `fraction` is random in [0, 1).

    A refused grant is an answer like a pair: Envoy serves.
    """
    probed = health.probe_until is not None and now < health.probe_until
    held = health.open_until is not None and now < health.open_until and not probed
    if fault is None:
        if held:
            return health  # A call from before: it must not end the time that Envoy asked for.
        if health.is_open:
            # Nor does the bucket keep what came in while nobody called.
            return ProviderHealth(level=0.0, level_at=now, closed_at=now)
        return ProviderHealth(level=health.level, level_at=health.level_at, closed_at=health.closed_at)
    if held and not _asks_for_patience(fault):
        return health
    kind = CLIENT_REFUSED if isinstance(fault, ClientRefused) else fault.kind
    failing = health.failing + (install_id != health.last_failing)
    failed = replace(health, failing=failing, last_failing=install_id, kind=kind)
    if not (health.is_open or _opens(fault, failing)):
        return failed
    openings = health.openings if held else health.openings + 1
    wait = _asked_for(fault) or full_jitter(openings + FIRST_OPENING, fraction)
    open_until = max(now + wait, health.open_until or now)
    return replace(failed, openings=openings, open_until=open_until, probe_until=None)


def _burst(limits: ProviderLimits) -> float:
    return max(1.0, limits.calls_per_second * BURST.total_seconds())


def _level(health: ProviderHealth, limits: ProviderLimits, now: datetime) -> float:
    rate = limits.calls_per_second * _strength(health, now)
    since = max(0.0, (now - health.level_at).total_seconds())
    return min(_burst(limits), health.level + rate * since)


def _strength(health: ProviderHealth, now: datetime) -> float:
    if health.closed_at is None:
        return 1.0
    return min(1.0, max(RAMP_FROM, (now - health.closed_at) / RAMP))


def _opens(fault: ProviderFault, failing: int) -> bool:
    if _asks_for_patience(fault):
        return True
    if isinstance(fault, ClientRefused):
        return fault.named or failing >= INSTALLS_TO_OPEN_IF_REFUSED
    return failing >= INSTALLS_TO_OPEN


def _asks_for_patience(fault: ProviderFault) -> bool:
    return isinstance(fault, Limited) or _asked_for(fault) is not None


def _asked_for(fault: ProviderFault) -> timedelta | None:
    return fault.retry_after if isinstance(fault, Limited | OutcomeUnknown) else None
