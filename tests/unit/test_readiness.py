"""Readiness: whether callers should be sent here, and why not (ADR 14)."""

import asyncio
from datetime import timedelta
from typing import Final

from broker.domain.errors import Overloaded
from broker.readiness import INTERVAL, Readiness
from tests.fakes.clock import FakeClock
from tests.fakes.steps import settled

AWAY: Final = "the database can't be reached"
SECOND: Final = timedelta(seconds=1)


class World:
    """What readiness looks at, and its task."""

    def __init__(self, database: str | Exception | None) -> None:
        self.database = database
        self.circuits: dict[str, str] = {}
        self.shut: str | None = None
        self.remarks: list[str] = []
        self.told: list[bool] = []
        self.clock = FakeClock()
        self.readiness = Readiness(
            database_problem=self._look,
            open_circuits=lambda: self.circuits,
            door_shut=lambda: self.shut,
            door_remarks=lambda: self.remarks,
            on_change=self._note,
            clock=self.clock,
        )
        self.watching = asyncio.create_task(self.readiness.watch())

    async def looks(self, database: str | Exception | None) -> str | None:
        """The verdict after the next look, at which this is found."""
        await settled()
        self.database = database
        self.clock.advance(INTERVAL)
        await settled()
        return self.readiness.problem

    async def _look(self) -> str | None:
        if isinstance(self.database, Exception):
            raise self.database
        return self.database

    async def _note(self, ready: bool) -> None:  # as Readiness tells it
        self.told.append(ready)


async def test_not_ready_before_the_database_has_answered_and_from_then_on() -> None:
    """Callers are sent here once, when it is."""
    world = World(AWAY)
    assert world.readiness.problem == "starting"
    assert await world.looks(AWAY) == AWAY
    assert await world.looks(None) is None
    assert await world.looks(None) is None
    assert world.told == [True]


async def test_f34_ready_replica_stays_ready_while_its_database_is_away_and_remarks_it() -> None:
    """It goes for all of them at once: then nobody could reach the tokens in their memories."""
    world = World(None)
    await settled()
    assert await world.looks(AWAY) is None
    assert world.readiness.remarks() == [AWAY]
    assert await world.looks(None) is None
    assert world.readiness.remarks() == []


async def test_f33_busy_database_is_not_away() -> None:
    """The last verdict stands."""
    world = World(None)
    await settled()
    await world.looks(Overloaded("every connection is in use", SECOND))
    assert world.readiness.remarks() == []


async def test_error_that_nobody_foresaw_is_a_problem_and_not_the_end_of_looking() -> None:
    """Else a replica would stay for ever what it was when the task died."""
    world = World(RuntimeError("a bug"))
    await settled()
    assert await world.looks(RuntimeError("a bug")) is not None
    assert await world.looks(None) is None


async def test_f08_open_circuit_is_a_remark() -> None:
    """Other apps are served, and this one's valid tokens."""
    world = World(None)
    await settled()
    world.circuits["4242"] = "client_refused"
    assert world.readiness.problem is None
    assert world.readiness.remarks() == ["Envoy is not being called for app 4242 (client_refused)"]


async def test_broken_policy_file_is_a_remark() -> None:
    """The policy from before is in force, and the replica serves by it."""
    world = World(None)
    await settled()
    world.remarks.append("the policy file is broken")
    assert world.readiness.problem is None
    assert world.readiness.remarks() == ["the policy file is broken"]


async def test_f43_replica_whose_record_can_not_be_written_is_not_ready_until_it_can() -> None:
    """It hands nothing out; another one's disk may have room. Callers come back when this one's has."""
    world = World(None)
    await settled()
    world.shut = "the audit trail can't be written"
    assert await world.looks(None) == world.shut
    world.shut = None
    assert await world.looks(None) is None
    assert world.told == [True, False, True]


async def test_f43_replica_that_can_not_write_its_record_does_not_become_ready() -> None:
    """A rollout stops at the first pod whose sink is missing."""
    world = World(None)
    world.shut = "the audit trail can't be written"
    await settled()
    assert await world.looks(None) == world.shut
    assert world.told == []


async def test_f37_stopping_replica_is_not_ready_whatever_comes() -> None:
    """It must not be sent calls again because the database is back."""
    world = World(AWAY)
    await settled()
    world.readiness.stopping()
    assert await world.looks(None) == "stopping"
    assert world.told == []
