"""The last attempts of an install, for people: who tried what, when, and how it ended. Nothing is decided by it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.domain.claims import Claim, Ending

# An install at rest makes one or two attempts a day, a failing one some a minute at first: enough to see how it began.
KEPT_ATTEMPTS: Final = 10
# How an attempt ended whose holder was never heard of again: killed, or cut off.
UNKNOWN: Final = "unknown"

_TRACEPARENT_PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt that is over.

    Attributes:
        attempt: its number.
        purpose: a value of `claims.Purpose`; "" where a release made it that did not say.
        owner: names the process that made it.
        began_at: when its claim was taken; None where a release took it that did not say.
        ended_at: when its end was stored; of an UNKNOWN one: when the next attempt, or a deletion, found it so.
        ending: UNKNOWN, a value of `claims.Ending`, or the kind of a fault (see ProviderFault.kind).
        generation: the one that it brought; None if it brought none.
        trace_id: of the trace that it belongs to; "" without one.
    """

    attempt: int
    purpose: str
    owner: str
    began_at: datetime | None
    ended_at: datetime
    ending: str
    generation: int | None = None
    trace_id: str = ""


def record_of(
    claim: Claim, ending: str, *, began_at: datetime, ended_at: datetime, generation: int | None = None
) -> AttemptRecord:
    """The record of an attempt that its holder ended. The times are on the database's clock."""
    return AttemptRecord(
        attempt=claim.attempt,
        purpose=claim.purpose.value,
        owner=claim.owner,
        began_at=began_at,
        ended_at=ended_at,
        ending=ending,
        generation=generation,
        trace_id=trace_id_of(claim.traceparent),
    )


def lost(claim: Claim, *, began_at: datetime, ended_at: datetime) -> AttemptRecord:
    """The record of an attempt whose pair came when a later attempt's stood there already: it was dropped."""
    return record_of(claim, Ending.SUPERSEDED, began_at=began_at, ended_at=ended_at)


def trace_id_of(traceparent: str) -> str:
    """The trace id within a W3C traceparent ("Trace Context", section 3.2), or ""."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= _TRACEPARENT_PARTS else ""
