"""The history of an install's attempts as its row holds it: JSON that is written with each end, and read by people only.

A claim's own columns tell of the attempt `noted_attempt`: one that the previous release took left them as they were.
"""

import json
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from broker.adapters.postgres.rows import Row
from broker.domain.claims import Claim
from broker.domain.history import KEPT_ATTEMPTS, UNKNOWN, AttemptRecord, lost, record_of, trace_id_of
from broker.ports import Clock

_TIMES: Final = ("began_at", "ended_at")
# What tells a record from another, in a row.
_IDENTITY: Final = ("attempt", "owner", "ending")


def noting(*ended: AttemptRecord) -> dict[str, Any]:
    """The parameters by which a statement puts records in front of a row's history."""
    return {"ended": _jsonb([asdict(record) for record in ended]), "kept": KEPT_ATTEMPTS}


def noting_end(
    row: Row, claim: Claim, clock: Clock, ending: str, *, generation: int | None = None
) -> dict[str, Any]:
    """As `noting`, for an attempt that its holder ends, in a row that was received just now."""
    began_at, ended_at = _times(row, claim, clock)
    return noting(record_of(claim, ending, began_at=began_at, ended_at=ended_at, generation=generation))


def noting_lost(row: Row, claim: Claim, clock: Clock) -> dict[str, Any]:
    """As `noting_end`, for one whose pair is dropped; and what a row holds that knows it already."""
    began_at, ended_at = _times(row, claim, clock)
    record = lost(claim, began_at=began_at, ended_at=ended_at)
    same = {name: value for name, value in asdict(record).items() if name in _IDENTITY}
    return noting(record) | {"same": _jsonb([same])}


def noting_unheard(row: Row) -> dict[str, Any]:
    """As `noting`, for the claim that still stands in a locked row, if one does: its holder was not heard of."""
    if row["claim_owner"] is None:
        return noting()
    record = AttemptRecord(
        attempt=row["attempt"],
        purpose="",
        owner=row["claim_owner"],
        began_at=None,
        ended_at=row["now"],
        ending=UNKNOWN,
    )
    if row["noted_attempt"] == row["attempt"]:
        record = replace(
            record,
            purpose=row["claim_purpose"],
            began_at=row["claim_began_at"],
            trace_id=trace_id_of(row["claim_traceparent"]),
        )
    return noting(record)


def records_of(history: list[dict[str, Any]]) -> tuple[AttemptRecord, ...]:
    """A row's history."""
    return tuple(AttemptRecord(**entry | {name: _time(entry[name]) for name in _TIMES}) for entry in history)


def _times(row: Row, claim: Claim, clock: Clock) -> tuple[datetime, datetime]:
    """When the attempt began, and when it ends, on the database's clock."""
    return row["now"] - (clock.now() - claim.began_at), row["now"]


def _jsonb(value: object) -> Jsonb:
    return Jsonb(value, dumps=_dumps)


def _dumps(value: object) -> str:
    return json.dumps(value, default=datetime.isoformat, separators=(",", ":"))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
