"""The ledger: every token request that reached the simulated Envoy, and what became of it.

It judges the promise that a refresh token is presented at most once at a time, and never again after an
attempt whose outcome its sender could not know. It holds fingerprints, no tokens.
"""

import asyncio
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

MAX_ENTRIES = 100_000

Stage = Literal["arrived", "processed", "answered"]


@dataclass
class LedgerEntry:
    """One token request, from its arrival to its end. The field names are the JSON's."""

    sequence: int
    time: str
    path: str
    form: str | None
    credentials: str | None
    grant_type: str | None = None
    plugin_id: str | None = None
    install_id: str | None = None
    token_fingerprint: str | None = None
    """Names the refresh token that was presented."""
    issued_access_fingerprint: str | None = None
    issued_refresh_fingerprint: str | None = None
    outcome: str = "in_flight"
    """What Envoy did: issued, not_processed, or RFC 6749's error code."""
    answer: str = "none_yet"
    """What left: documented, altered, cut, client_gone, a behaviour's body, or status_NNN."""
    processed: bool = False
    answered: bool = False
    outcome_known: bool = False
    """Whether the sender could know the outcome from the answer."""
    reuse: bool = False
    """A spent refresh token was presented."""
    after_unknown_outcome: bool = False
    """The same refresh token was presented before, and its sender could not know what came of it."""
    concurrent_with: list[int] = field(default_factory=list)
    """Presentations of the same refresh token in flight at the same time."""


class Ledger:
    """The entries in the order of arrival, and those who wait for the next one."""

    def __init__(self) -> None:
        self._entries: list[LedgerEntry] = []
        self._last_sequence = 0
        self._in_flight: defaultdict[str, list[LedgerEntry]] = defaultdict(list)
        self._in_doubt: set[str] = set()
        self._changed = asyncio.Event()

    def arrive(self, now: float, **facts: Any) -> LedgerEntry:
        """Opens the entry of a request. ``facts`` are fields of `LedgerEntry`; ``now`` is in Unix seconds."""
        self._last_sequence += 1
        time = datetime.fromtimestamp(now, UTC).isoformat()
        entry = LedgerEntry(sequence=self._last_sequence, time=time, **facts)
        self._entries.append(entry)
        del self._entries[:-MAX_ENTRIES]
        if entry.token_fingerprint is not None:
            self._note_presentation(entry, entry.token_fingerprint)
        self._tell()
        return entry

    def processed(self, entry: LedgerEntry, outcome: str) -> None:
        """Envoy has decided, and any effect on its tokens has happened."""
        entry.outcome, entry.processed = outcome, True
        self._tell()

    def answered(self, entry: LedgerEntry, answer: str, *, outcome_known: bool) -> None:
        """The answer has left, or the connection has been dropped."""
        entry.answer, entry.outcome_known, entry.answered = answer, outcome_known, True
        if entry.token_fingerprint is not None:
            self._end_presentation(entry, entry.token_fingerprint)
        self._tell()

    def entries(self, install_id: str | None = None) -> list[dict[str, Any]]:
        """The entries as JSON objects."""
        return [asdict(entry) for entry in self._of(install_id)]

    def clear(self) -> None:
        """Forgets every entry, and what was in doubt; the sequence goes on."""
        self._entries.clear()
        self._in_doubt.clear()

    async def wait_for(self, count: int, stage: Stage, install_id: str | None) -> None:
        """Returns when so many requests have come so far. The caller bounds the wait."""
        while sum(_has_reached(entry, stage) for entry in self._of(install_id)) < count:
            await self._changed.wait()

    def _of(self, install_id: str | None) -> list[LedgerEntry]:
        return [entry for entry in self._entries if install_id in {None, entry.install_id}]

    def _note_presentation(self, entry: LedgerEntry, fingerprint: str) -> None:
        entry.after_unknown_outcome = fingerprint in self._in_doubt
        for other in self._in_flight[fingerprint]:
            other.concurrent_with.append(entry.sequence)
            entry.concurrent_with.append(other.sequence)
        self._in_flight[fingerprint].append(entry)

    def _end_presentation(self, entry: LedgerEntry, fingerprint: str) -> None:
        self._in_flight[fingerprint].remove(entry)
        if not self._in_flight[fingerprint]:
            del self._in_flight[fingerprint]
        if not entry.outcome_known:
            self._in_doubt.add(fingerprint)

    def _tell(self) -> None:
        """Wakes every waiter; each looks for itself."""
        self._changed.set()
        self._changed = asyncio.Event()


def _has_reached(entry: LedgerEntry, stage: Stage) -> bool:
    return stage == "arrived" or (entry.processed if stage == "processed" else entry.answered)
