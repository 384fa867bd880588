"""The tokens that this process has seen lately, so that a fresh one costs no query."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from broker.domain.freshness import longest_min_ttl, usable_until
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding
from broker.domain.states import SERVING_STATES

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
# Of the staleness: from here on an entry that is asked for is looked up ahead of the moment when one must wait for it.
LOOK_AHEAD_SHARE: Final = 0.5


@dataclass(slots=True)
class Entry:
    """A holding, with the moments that decide about it worked out once.

    Attributes:
        learnt_at: what the store has said since is newer than this.
        look_at: from here on somebody should look whether the holding still stands; nobody waits for that.
        check_at: from here on the store must have been asked.
        refresh_at: no refresh begins behind this token before: the last one has just been tried.
        usable_until: until here the token may be handed out.
        fresh_until: until here it may be handed out without a look at anything else.
        longest_min_ttl: the longest that a caller may ask for.
        rendering: the API keeps its ready-made answer here.
        fingerprint: of the token, for the record; made when it is first handed out.
    """

    holding: Holding
    learnt_at: datetime
    check_at: datetime
    look_at: datetime
    refresh_at: datetime = _NEVER
    usable_until: datetime = field(init=False)
    fresh_until: datetime = field(init=False)
    longest_min_ttl: timedelta = field(init=False, default=timedelta(0))
    rendering: bytes | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        install = self.holding.install
        self.usable_until = self.fresh_until = _NEVER
        if install.validity is None or install.rejected or install.state not in SERVING_STATES:
            return
        self.usable_until = usable_until(install.validity)
        self.longest_min_ttl = longest_min_ttl(install.validity)
        if not install.in_doubt:
            self.fresh_until = min(install.validity.refresh_due_at, self.usable_until, self.look_at)


class TokenCache:
    """At most `max_entries`, the least lately used leave first; none is believed longer than `max_staleness`."""

    def __init__(self, *, max_entries: int, max_staleness: timedelta) -> None:
        self._max_entries = max_entries
        self._max_staleness = max_staleness
        self._entries: OrderedDict[InstallKey | tuple[str, str], Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: InstallKey) -> bool:
        return key in self._entries

    def get(self, key: InstallKey | tuple[str, str]) -> Entry | None:
        """What was seen last of this install. The caller looks at the entry's moments."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, holding: Holding, asked_at: datetime) -> Entry:
        """Remember what the store said when it was asked at `asked_at`, unless something newer is known already.

        Generation, attempt and the row's last change only ever grow, so a read that was overtaken by a
        store can't bring the old token back.
        """
        key = holding.install.key
        learnt_at, refresh_at = asked_at, _NEVER
        known = self._entries.get(key)
        if known is not None:
            learnt_at, refresh_at = max(asked_at, known.learnt_at), known.refresh_at
            if _age(known.holding) > _age(holding):
                holding = _newer_of(known, holding, asked_at)
        check_at = asked_at + self._max_staleness
        look_at = asked_at + self._max_staleness * LOOK_AHEAD_SHARE
        entry = Entry(holding, learnt_at, check_at, look_at, refresh_at)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return entry


def _newer_of(known: Entry, told: Holding, asked_at: datetime) -> Holding:
    """What to believe of what is `known`, and an older state that the store told.

    A read that began before we knew has been overtaken. One that began later means that the database has forgotten
    commits, in a failover, or was never told of a pair. Then the token may serve on, but is in doubt: the next attempt
    knows its generation, and mints. If what is left says that no token may be handed out, none is.
    """
    if asked_at <= known.learnt_at:
        return known.holding
    if told.install.state not in SERVING_STATES or known.holding.install.state not in SERVING_STATES:
        return told
    return replace(known.holding, install=replace(known.holding.install, in_doubt=True))


def _age(holding: Holding) -> tuple[int, int, datetime]:
    return holding.install.generation, holding.install.attempt, holding.install.updated_at
