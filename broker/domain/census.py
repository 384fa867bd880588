"""The census: how many installs there are, by what an operator asks first. The same from every replica."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from broker.domain.states import InstallState


class Within(StrEnum):
    """How soon an access token expires: in less than this, and not in less than the one before says."""

    EXPIRED = "expired"
    FIVE_MINUTES = "5m"
    HALF_AN_HOUR = "30m"
    TWO_HOURS = "2h"
    HALF_A_DAY = "12h"
    DAY = "1d"
    WEEK = "7d"
    LATER = "later"


# Where each ends and the next begins. LATER has no end.
ENDS: Final = {
    Within.EXPIRED: timedelta(0),
    Within.FIVE_MINUTES: timedelta(minutes=5),
    Within.HALF_AN_HOUR: timedelta(minutes=30),
    Within.TWO_HOURS: timedelta(hours=2),
    Within.HALF_A_DAY: timedelta(hours=12),
    Within.DAY: timedelta(days=1),
    Within.WEEK: timedelta(days=7),
}


def within(left: timedelta) -> Within:
    """How soon a token expires that lives for `left` more."""
    return next((each for each, end in ENDS.items() if left < end), Within.LATER)


class InstallsOf(NamedTuple):
    """What installs are counted by. `failing`: see Install.failing."""

    plugin_id: str
    state: InstallState
    failing: bool


class ExpiringOf(NamedTuple):
    """What the access tokens of installs in a serving state are counted by."""

    plugin_id: str
    within: Within


@dataclass(frozen=True, slots=True)
class AppHealth:
    """What the replicas know together of Envoy's health for an app, as of this moment.

    Attributes:
        calls_left: in the shared budget; 0 while the circuit is open.
        circuit: the kind of the fault for which the circuit is open; "" while it is closed.
        open_until: when a probe may be made, on the broker's clock; None while the circuit is closed.
    """

    plugin_id: str
    calls_left: float
    circuit: str
    open_until: datetime | None


@dataclass(frozen=True, slots=True)
class CensusOfInstalls:
    """Attributes: counted_at: when the installs were counted, on the broker's clock. apps: as they are now."""

    counted_at: datetime
    installs: Mapping[InstallsOf, int]
    expiring: Mapping[ExpiringOf, int]
    apps: tuple[AppHealth, ...]
