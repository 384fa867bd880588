"""The census as the overview's tables, without the apps that its reader may not see."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from broker.domain.census import AppHealth, CensusOfInstalls, Within
from broker.domain.states import InstallState

PERCENT: Final = 100
SOON: Final = {
    Within.EXPIRED: "expired",
    Within.FIVE_MINUTES: "under 5 minutes",
    Within.HALF_AN_HOUR: "5 to 30 minutes",
    Within.TWO_HOURS: "30 minutes to 2 hours",
    Within.HALF_A_DAY: "2 to 12 hours",
    Within.DAY: "12 to 24 hours",
    Within.WEEK: "1 to 7 days",
    Within.LATER: "7 days or later",
}
ALARMING: Final = frozenset({Within.EXPIRED, Within.FIVE_MINUTES})


@dataclass(frozen=True, slots=True)
class Count:
    """A row. Attributes: share: of the app's, in percent. failing: of them. alarming: not to be overlooked."""

    plugin_id: str
    what: str
    installs: int
    share: int
    failing: int = 0
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """The tables, by app. Attributes: failing: of all installs."""

    by_state: list[Count]
    by_expiry: list[Count]
    apps: list[AppHealth]
    installs: int
    failing: int


def overview_of(census: CensusOfInstalls, may_see: Callable[[str], bool]) -> Overview:
    """What the reader may see of it."""
    counted = {of.plugin_id for of in census.installs} | {of.plugin_id for of in census.expiring}
    named = counted | {app.plugin_id for app in census.apps}
    seen = sorted(plugin_id for plugin_id in named if may_see(plugin_id))
    by_state = [row for plugin_id in seen for row in _by_state(census, plugin_id)]
    return Overview(
        by_state=by_state,
        by_expiry=[row for plugin_id in seen for row in _by_expiry(census, plugin_id)],
        apps=sorted((app for app in census.apps if app.plugin_id in seen), key=lambda app: app.plugin_id),
        installs=sum(row.installs for row in by_state),
        failing=sum(row.failing for row in by_state),
    )


def _by_state(census: CensusOfInstalls, plugin_id: str) -> Iterable[Count]:
    counts = [(of, count) for of, count in census.installs.items() if of.plugin_id == plugin_id and count]
    total = sum(count for _, count in counts)
    for state in InstallState:
        installs = sum(count for of, count in counts if of.state is state)
        failing = sum(count for of, count in counts if of.state is state and of.failing)
        if installs:
            yield Count(plugin_id, words(state), installs, _share(installs, total), failing)


def _by_expiry(census: CensusOfInstalls, plugin_id: str) -> Iterable[Count]:
    counts = {
        of.within: count for of, count in census.expiring.items() if of.plugin_id == plugin_id and count
    }
    total = sum(counts.values())
    for within in Within:
        if installs := counts.get(within):
            yield Count(
                plugin_id, SOON[within], installs, _share(installs, total), alarming=within in ALARMING
            )


def words(name: str) -> str:
    """A name of the code's as people read it."""
    return name.replace("_", " ")


def _share(part: int, whole: int) -> int:
    """In percent, and never nothing for something."""
    return max(1, round(PERCENT * part / whole))
