"""What the console shows besides installs: the process that answers, and what the replicas counted together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.domain.census import CensusOfInstalls


@dataclass(frozen=True, slots=True)
class Replica:
    """The process that answers, at this moment.

    Attributes:
        name: as the histories of installs name who made an attempt: HOST:PID.
        problem: why it is not ready; None if it is.
        remarks: what is wrong though it is ready.
        cached: how many tokens it remembers.
        in_flight: gRPC calls under way.
        refreshing: installs for which it is fetching a pair.
    """

    name: str
    version: str
    uptime: timedelta
    problem: str | None
    remarks: Sequence[str]
    cached: int
    in_flight: int
    refreshing: int


@dataclass(frozen=True, slots=True)
class Shown:
    """Where the pages find it. Attributes: census: the newest; None before the first. now: on the broker's clock."""

    replica: Callable[[], Replica]
    census: Callable[[], CensusOfInstalls | None]
    now: Callable[[], datetime]
