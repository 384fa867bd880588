"""What the kill storm does to replicas, to Envoy and to the database, at random, until it is over."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import psycopg

from tests.acceptance.replicas import Replicas
from tests.acceptance.short_lived import ShortLived
from tests.integration.served_envoy import ServedEnvoy

# Mean times between two of a kind. Of Envoy's faults more would only open its circuits.
SIGNAL_SECONDS_OF_A_REPLICA: Final = 8.0
ENVOY_FAULT_SECONDS_OF_AN_INSTALL: Final = 20.0
RELEASE_SECONDS: Final = 1.5
CUT_SECONDS: Final = 4.0
LONGEST_STOP_SECONDS: Final = 4.0
# What has met no request by then is taken back, or it would wait behind an open circuit, and fail each of its probes.
FAULT_LIFE_SECONDS: Final = 2.5
# So many replicas at least are left alone at any time.
LEFT_ALONE: Final = 1

# Each for the next request of one install. A call's limit is a second, and a claim's life not much longer.
ENVOY_FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"status": 500},
    {"status": 503},
    {"status": 500, "status_after_processing": True},
    {"status": 429, "retry_after_seconds": 1},
    {"cut": "before_processing"},
    {"cut": "after_processing"},
    {"cut": "mid_answer"},
    {"body": "truncated"},
    {"body": "not_json"},
    {"latency_seconds": 0.6},
    {"latency_seconds": 1.4},
    {"latency_seconds": 3.0},
    {"process_after_seconds": 0.3},
    {"process_after_seconds": 2.5},
    {"held": "before_processing"},
    {"held": "after_processing"},
)
# Who fetches a pair just now.
_HOLDERS: Final = """
SELECT claim_owner FROM token_broker.installs WHERE claim_expires_at > clock_timestamp()
"""
# Of the database's connections, some in the middle of a transaction.
_CUT: Final = """
SELECT count(pg_terminate_backend(pid))
FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
      ORDER BY random() LIMIT %(count)s) AS unlucky
"""


class Faults:
    """A storm. Attributes: done: what was done, and how often."""

    def __init__(
        self,
        replicas: Replicas,
        envoy: ServedEnvoy,
        database: str,
        installs: Sequence[ShortLived],
        dice: random.Random,
    ) -> None:
        self._replicas = replicas
        self._envoy = envoy
        self._database = database
        self._installs = installs
        self._dice = dice
        self._disturbed: set[int] = set()
        self.done: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        """Do harm for so long. At the end every replica runs, or has been started anew."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as storm:
            for mean, harm in (
                (SIGNAL_SECONDS_OF_A_REPLICA / len(self._replicas), self._disturb_a_replica(storm)),
                (ENVOY_FAULT_SECONDS_OF_AN_INSTALL / len(self._installs), self._disturb_envoy(storm)),
                (RELEASE_SECONDS, self._envoy.release),
                (CUT_SECONDS, self._cut_connections),
            ):
                storm.create_task(self._again_and_again(over, mean, harm))
            await asyncio.sleep(seconds)
            over.set()

    async def calm(self) -> None:
        """Envoy is well from now on."""
        for install in self._installs:
            await self._envoy.http.delete(f"/_simulator/behaviour/{install.install_id}")
            await self._envoy.behave(install.install_id, **install.standing)
        await self._envoy.release()

    async def _again_and_again(
        self, over: asyncio.Event, mean_seconds: float, harm: Callable[[], Awaitable[None]]
    ) -> None:
        while not over.is_set():
            await asyncio.sleep(self._dice.expovariate(1 / mean_seconds))
            await harm()

    def _disturb_a_replica(self, storm: asyncio.TaskGroup) -> Callable[[], Awaitable[None]]:
        async def disturb() -> None:
            idle = [number for number in range(len(self._replicas)) if number not in self._disturbed]
            if len(idle) > LEFT_ALONE:
                holders = await self._holders()
                busy = [number for number in idle if self._replicas[number].process.pid in holders]
                number = self._dice.choice(busy or idle)
                self._disturbed.add(number)
                harm = self._dice.choice((self._kill, self._kill, self._stop_for_a_while, self._terminate))
                storm.create_task(self._until_it_serves(number, harm))

        return disturb

    async def _holders(self) -> set[int]:
        """The processes that hold a claim: what happens to them matters most."""
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as connection:
            owners = await (await connection.execute(_HOLDERS)).fetchall()
        return {int(owner.rpartition(":")[2]) for (owner,) in owners}

    async def _until_it_serves(self, number: int, harm: Callable[[int], Awaitable[None]]) -> None:
        try:
            await harm(number)
        finally:
            self._disturbed.discard(number)

    async def _kill(self, number: int) -> None:
        self.done["SIGKILL"] += 1
        self._replicas[number].kill()
        await self._replicas.restart(number)

    async def _terminate(self, number: int) -> None:
        self.done["SIGTERM"] += 1
        self._replicas[number].terminate()
        await self._replicas.restart(number)

    async def _stop_for_a_while(self, number: int) -> None:
        self.done["SIGSTOP"] += 1
        self._replicas[number].stop()
        await asyncio.sleep(self._dice.uniform(0.1, LONGEST_STOP_SECONDS))
        self._replicas[number].resume()

    def _disturb_envoy(self, storm: asyncio.TaskGroup) -> Callable[[], Awaitable[None]]:
        async def disturb() -> None:
            fault, install = self._dice.choice(ENVOY_FAULTS), self._dice.choice(self._installs)
            self.done["Envoy: " + ", ".join(f"{name} {value}" for name, value in fault.items())] += 1
            await self._envoy.behave(install.install_id, remaining=1, **fault)
            storm.create_task(self._take_back(install))

        return disturb

    async def _take_back(self, install: ShortLived) -> None:
        await asyncio.sleep(FAULT_LIFE_SECONDS)
        await self._envoy.behave(install.install_id, remaining=1)

    async def _cut_connections(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as connection:
            cursor = await connection.execute(_CUT, {"count": self._dice.randint(1, 8)})
            row = await cursor.fetchone()
        self.done["database connections cut"] += row[0] if row else 0
