"""The tokens that this process has seen lately, so that a fresh one costs no query."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from broker.domain.freshness import longest_min_ttl, usable_until
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding
from broker.domain.states import InstallState

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
SERVING_STATES: Final = frozenset({InstallState.PROVISIONAL, InstallState.ACTIVE})


@dataclass(slots=True)
class Entry:
    """A holding, with the moments that decide about it worked out once.

    Attributes:
        check_at: from here on the store must be asked whether the holding still stands.
        usable_until: until here the token may be handed out.
        fresh_until: until here it may be handed out without a look at anything else.
        longest_min_ttl: the longest that a caller may ask for.
        rendering: the API keeps its ready-made answer here.
    """

    holding: Holding
    check_at: datetime
    usable_until: datetime = field(init=False)
    fresh_until: datetime = field(init=False)
    longest_min_ttl: timedelta = field(init=False, default=timedelta(0))
    rendering: bytes | None = None

    def __post_init__(self) -> None:
        install = self.holding.install
        self.usable_until = self.fresh_until = _NEVER
        if install.validity is None or install.state not in SERVING_STATES:
            return
        self.usable_until = usable_until(install.validity)
        self.longest_min_ttl = longest_min_ttl(install.validity)
        if not install.in_doubt:
            self.fresh_until = min(install.validity.refresh_due_at, self.usable_until, self.check_at)


class TokenCache:
    """At most `max_entries`, the least lately used leave first; none is believed longer than `max_staleness`."""

    def __init__(self, *, max_entries: int, max_staleness: timedelta) -> None:
        self._max_entries = max_entries
        self._max_staleness = max_staleness
        self._entries: OrderedDict[InstallKey | tuple[str, str], Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: InstallKey | tuple[str, str]) -> Entry | None:
        """What was seen last of this install. The caller looks at the entry's moments."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, holding: Holding, now: datetime) -> Entry:
        """Remember what was read or stored at `now`, unless something newer is known already.

        Generation, attempt and the row's last change only ever grow, so a read that was overtaken by a
        store can't bring the old token back.
        """
        install = holding.install
        known = self._entries.get(install.key)
        if known is not None and _age(known.holding) > _age(holding):
            holding = known.holding
        entry = Entry(holding, check_at=now + self._max_staleness)
        self._entries[install.key] = entry
        self._entries.move_to_end(install.key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return entry


def _age(holding: Holding) -> tuple[int, int, datetime]:
    return holding.install.generation, holding.install.attempt, holding.install.updated_at
