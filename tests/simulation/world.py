"""What all replicas of a run share: time, the database, Envoy, the network's mood; and the history of it all."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.domain.identifiers import InstallKey
from broker.domain.provider_health import ProviderHealth
from tests.fakes.hints import FakeHints
from tests.fakes.installs_table import InstallsTable, Row
from tests.fakes.samples import APP, CIPHER
from tests.simulation.issuer import Issuer, Policy
from tests.simulation.virtual_time import SimulatedClock

SNAPSHOT_EVERY: Final = timedelta(seconds=1)
SNAPSHOTS_KEPT: Final = 30


class BrokenPromiseError(Exception):
    """A run saw what must never be."""


@dataclass(slots=True)
class Mood:
    """The faults of this moment: shares of operations that meet them, in [0, 1]."""

    lost_answers: float = 0.0
    late_processing: float = 0.0
    envoy_errors: float = 0.0
    envoy_asks_for_patience: float = 0.0
    envoy_slow: float = 0.0
    client_refused: float = 0.0
    not_sent: float = 0.0
    store_errors: float = 0.0
    outages: int = 0

    @property
    def store_away(self) -> bool:
        """Whether the database is away, for whatever reason."""
        return self.outages > 0


@dataclass(slots=True)
class Presentation:
    """One time that a refresh token was sent. `ended`: None under way, else whether the sender knew the outcome."""

    by: str
    at: float
    outcome_known: bool | None = None


@dataclass(slots=True)
class World:
    """One run's world."""

    seed: int
    policy: Policy
    dice: random.Random = field(init=False)
    loop: asyncio.AbstractEventLoop = field(init=False)
    clock: SimulatedClock = field(init=False)
    table: InstallsTable = field(init=False)
    issuer: Issuer = field(init=False)
    health: dict[str, ProviderHealth] = field(default_factory=dict)
    hints: FakeHints = field(default_factory=FakeHints)
    mood: Mood = field(default_factory=Mood)
    presentations: dict[str, list[Presentation]] = field(default_factory=dict)
    calls_at: list[float] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    snapshots: list[tuple[float, dict[InstallKey, Row]]] = field(default_factory=list)
    failed_over_at: list[float] = field(default_factory=list)
    processed_late: set[str] = field(default_factory=set)
    forgot_a_reinstall: bool = False

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311 (a seed that anybody can name again)
        self.loop = asyncio.get_running_loop()
        self.clock = SimulatedClock(self.loop)
        self.table = InstallsTable(self.clock, CIPHER)
        self.issuer = Issuer(self.policy)

    def now(self) -> datetime:
        """True time."""
        return self.clock.now()

    def chance(self, share: float) -> bool:
        """Whether something befalls this operation."""
        return share > 0 and self.dice.random() < share

    def note(self, who: str, what: str) -> None:
        """A line of history."""
        self.history.append(f"{self.loop.time():9.3f} {who:10} {what}")

    def breaks(self, promise: str, what: str) -> None:
        """A promise has been broken."""
        self.note("JUDGE", f"{promise} broken: {what}")
        self.broken.append(f"{promise}: {what}")

    def key(self, install_id: str) -> InstallKey:
        """The install's key."""
        return InstallKey(APP.plugin_id, install_id)

    async def keep_snapshots(self) -> None:
        """Remember states that a standby may have."""
        while True:
            self.snapshots.append((self.loop.time(), dict(self.table.rows)))
            del self.snapshots[:-SNAPSHOTS_KEPT]
            await asyncio.sleep(SNAPSHOT_EVERY.total_seconds())

    async def fail_over(self, lost: float) -> None:
        """The database goes away, and comes back as it was `lost` seconds before."""
        self.mood.outages += 1
        wanted = self.loop.time() - lost
        await asyncio.sleep(self.dice.uniform(0.5, 5))
        at, rows = max(
            (s for s in self.snapshots if s[0] <= wanted), default=self.snapshots[0], key=lambda s: s[0]
        )
        self.table.rows = dict(rows)
        self.failed_over_at.append(self.loop.time())
        self.snapshots = [(at, dict(rows))]
        self.mood.outages -= 1
        self.note("DATABASE", f"failed over to its state of {at:.3f}")
