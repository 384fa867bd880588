"""The scene of the tests with several replicas: a database, a strict simulated Envoy, replicas, and their judge."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.simulated_envoy.tokens import fingerprint
from tests.acceptance.replicas import NEVER, Replica, Replicas, replicas
from tests.databases import new_database
from tests.eventually import eventually
from tests.integration.served_broker import ServedBroker, rows_of, served_broker
from tests.integration.served_envoy import APP, ServedEnvoy, served_envoy
from tokenbroker.v1.token_broker_pb2 import GetTokenResponse

PAST_DUE: Final = timedelta(hours=18)
PAST_EXPIRY: Final = timedelta(hours=25)
# Longer than a claim's life and the first back-off by the default settings, and nothing to a token.
A_MINUTE: Final = timedelta(minutes=1)
CALLERS: Final = 20

# What Envoy was asked, and what it did.
Call = tuple[str, str]
REFRESHED: Final[Call] = ("refresh_token", "issued")
MINTED: Final[Call] = ("plugin_install", "issued")

# The entries of Envoy's ledger that break the first promise: one spend.
_WRONG: Final = ("concurrent_with", "after_unknown_outcome", "reuse")
_INSTALL_IDS: Final = itertools.count(2_000_001)

_TIME_PASSES: Final = """
UPDATE token_broker.installs
SET issued_at = issued_at - %(by)s, expires_at = expires_at - %(by)s, refresh_due_at = refresh_due_at - %(by)s,
    refresh_token_expires_at = refresh_token_expires_at - %(by)s, claim_expires_at = claim_expires_at - %(by)s,
    due_at = due_at - %(by)s, failed_at = failed_at - %(by)s, retry_at = retry_at - %(by)s,
    rejected_at = rejected_at - %(by)s
WHERE install_id = ANY (%(install_ids)s)
"""


def presented_wrongly(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The presentations that were made twice at once, after an unknown outcome, or of a token known as spent."""
    named = ("sequence", "install_id", *_WRONG)
    return [{name: entry[name] for name in named} for entry in entries if any(map(entry.get, _WRONG))]


@dataclass(frozen=True)
class Scene:
    """Replicas under test. Each test takes installs of its own.

    Attributes:
        front_desk: a broker in this process that takes the webhooks, so that no replica has a token in its memory
            when its times are moved. It sweeps nothing.
    """

    database: str
    envoy: ServedEnvoy
    front_desk: ServedBroker
    replicas: Replicas

    async def installed(self, **behaviour: Any) -> str:
        """The id of a new install, for which Envoy has issued one pair, and behaves so from now on."""
        install_id = str(next(_INSTALL_IDS))
        await self.envoy.behave(install_id, **behaviour)
        await self.front_desk.installed(install_id)
        return install_id

    async def time_passes(self, by: timedelta, *install_ids: str) -> None:
        """For these installs in the database, and for Envoy; not for what a replica has in its memory."""
        self.envoy.clock.now += by.total_seconds()
        async with await psycopg.AsyncConnection.connect(self.database) as connection:
            await connection.execute(_TIME_PASSES, {"by": by, "install_ids": list(install_ids)})

    async def calls(self, install_id: str) -> list[Call]:
        """What Envoy has been asked for the install since its first pair."""
        entries = await self.envoy.ledger(install_id=install_id)
        return [(entry["grant_type"], entry["outcome"]) for entry in entries[1:]]

    async def nothing_presented_wrongly(self, *install_ids: str) -> None:
        """One spend (P1), by Envoy's ledger."""
        for install_id in install_ids:
            assert presented_wrongly(await self.envoy.ledger(install_id=install_id)) == []

    async def ask(self, install_id: str, *, of: Sequence[Replica] = (), callers: int = CALLERS) -> int:
        """Let callers of each replica get a token at once: the same live one. Returns its generation."""
        replies = await asyncio.gather(
            *(each.get_token(install_id) for each in of or self.replicas for _ in range(callers))
        )
        (token,) = {(reply.access_token, reply.generation) for reply in replies}
        await self.lives(replies[0])
        return token[1]

    async def lives(self, reply: GetTokenResponse) -> None:
        """Envoy takes the token, and it is the install's."""
        answer = await self.envoy.http.get(f"/_simulator/tokens/{fingerprint(reply.access_token)}")
        facts = answer.json()
        assert facts["alive"], facts["why_dead"]
        assert facts["family"]["install_id"] == reply.install_id

    def row(self, install_id: str) -> dict[str, Any]:
        """The install, as the database has it."""
        (row,) = [row for row in rows_of(self.database) if row["install_id"] == install_id]
        return row

    async def stored(self, generation: int, *install_ids: str) -> None:
        """Return when each has a pair of that generation, and nothing is in doubt."""

        async def all_are() -> bool:
            rows = map(self.row, install_ids)
            return all((row["generation"], row["in_doubt"]) == (generation, False) for row in rows)

        await eventually(all_are)


@asynccontextmanager
async def load(replicas: Iterable[Replica], install_ids: Iterable[str]) -> AsyncIterator[None]:
    """Callers who ask for one token after the other, as long as the block runs. Any call that fails ends it."""

    async def ask_on(replica: Replica, install_id: str) -> None:
        while not over.is_set():
            await replica.get_token(install_id)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as callers:
        for replica, install_id in itertools.product(replicas, install_ids):
            callers.create_task(ask_on(replica, install_id))
        try:
            yield
        finally:
            over.set()


@asynccontextmanager
async def scene(
    postgres: EmbeddedPostgres,
    template: str,
    count: int,
    **settings: str,
) -> AsyncIterator[Scene]:
    """Runs `count` replicas and what they need; `settings` are the replicas', without their prefix."""
    with new_database(postgres, template) as database:
        async with scene_in(database, count, **settings) as set_up:
            yield set_up


@asynccontextmanager
async def scene_in(database: str, count: int, **settings: str) -> AsyncIterator[Scene]:
    """The same in a database of the test's own, with the broker's schema."""
    async with (
        served_envoy() as envoy,
        served_broker(envoy, database, SWEEP_SECONDS=NEVER) as front_desk,
        replicas(database, envoy, count, (APP,), **settings) as running,
    ):
        yield Scene(database, envoy, front_desk, running)
