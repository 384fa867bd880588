"""PostgresInstallStore: what only a real database can do to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Final

import psycopg
import pytest
from psycopg import sql

from broker.adapters.clock import SteadyClock
from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.resealing import COLUMNS
from broker.adapters.postgres.rows import seal_context
from broker.adapters.postgres.store import PostgresInstallStore
from broker.domain.claims import ClaimHeld
from broker.domain.errors import Overloaded, StoreUnavailable
from broker.domain.history import UNKNOWN
from broker.domain.secret import Secret
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.contract.store_harness import IMPATIENCE, PATIENCE, PostgresHarness
from tests.databases import direct_url
from tests.fakes.samples import ACCESS_LIFE, CIPHER, KEY, due, issued
from tests.fakes.steps import turn

TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BERLIN: Final = "&options=-c%20timezone%3DEurope/Berlin"


@pytest.fixture
async def harness(database: str) -> AsyncIterator[PostgresHarness]:
    """The store on a fresh database."""
    harness = PostgresHarness(database)
    await harness.open()
    yield harness
    await harness.close()


async def opened(
    stack: AsyncExitStack, dsn: str, *, max_size: int = 1, patience: timedelta = PATIENCE
) -> tuple[Connections, PostgresInstallStore]:
    """A store with a pool of its own."""
    connections = Connections(Secret(dsn), max_size=max_size, patience=patience)
    stack.push_async_callback(connections.close)
    await connections.open()
    return connections, PostgresInstallStore(connections, CIPHER, SteadyClock())


async def test_f39_times_are_utc_whatever_the_session_s_zone(harness: PostgresHarness, database: str) -> None:
    """Python's arithmetic within a zone with summer time is an hour off when the clocks change."""
    await harness.installed()
    async with AsyncExitStack() as stack:
        connections, store = await opened(stack, direct_url(database) + BERLIN)
        async with connections.connection() as connection:
            zone = await (await connection.execute("SHOW timezone")).fetchone()
        install = await store.find(KEY)
    assert zone == {"TimeZone": "Europe/Berlin"}
    assert install is not None
    assert install.validity is not None
    times = [install.created_at, install.updated_at, install.validity.issued_at, install.validity.expires_at]
    assert {time.tzinfo for time in times} == {UTC}
    assert install.validity.lifetime == ACCESS_LIFE


async def contended(store: PostgresInstallStore, database: str) -> list[BaseException]:
    """What becomes of more claims on a locked row than the store has connections for."""
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SELECT * FROM token_broker.installs FOR UPDATE")
        answers = await asyncio.gather(*(store.claim(KEY, due(1)) for _ in range(5)), return_exceptions=True)
    return [answer for answer in answers if isinstance(answer, BaseException)]


async def test_f33_exhausted_pool_is_overload(harness: PostgresHarness, database: str) -> None:
    """Who waits for a connection in vain is told to come back, and not that the database is away."""
    await harness.installed()
    async with AsyncExitStack() as stack:
        _, store = await opened(stack, database, patience=IMPATIENCE)
        await store.find(KEY)
        kinds = {type(error) for error in await contended(store, database)}
    assert kinds == {StoreUnavailable, Overloaded}


async def test_f33_exhausted_pool_is_overload_also_after_an_outage(
    harness: PostgresHarness, database: str, postgres: EmbeddedPostgres
) -> None:
    """Connections that failed once, long ago, say nothing about now."""
    await harness.installed()
    async with AsyncExitStack() as stack:
        _, store = await opened(stack, database, patience=IMPATIENCE)
        await store.find(KEY)
        with closed_to_connections(postgres, database), pytest.raises(StoreUnavailable):
            await store.find(KEY)
        while await store_is_away(store):
            await turn()
        kinds = {type(error) for error in await contended(store, database)}
    assert kinds == {StoreUnavailable, Overloaded}


async def store_is_away(store: PostgresInstallStore) -> bool:
    """Whether a look-up fails now."""
    try:
        await store.find(KEY)
    except StoreUnavailable:
        return True
    return False


@contextmanager
def closed_to_connections(postgres: EmbeddedPostgres, database: str) -> Iterator[None]:
    """The database refuses sessions, and has ended those it had."""
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(database)["dbname"]))
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        yield
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


async def test_f34_read_only_database_gives_no_claim_and_still_answers(
    harness: PostgresHarness, database: str
) -> None:
    """A standby that was promoted late, or a full disk: reads go on, nothing is sent."""
    await harness.installed()
    async with AsyncExitStack() as stack:
        _, store = await opened(
            stack, direct_url(database) + "&options=-c%20default_transaction_read_only%3Don"
        )
        assert await store.find_holding(KEY) is not None
        with pytest.raises(StoreUnavailable):
            await store.claim(KEY, due(1))


async def test_f34_database_without_a_schema_is_unavailable(empty_database: str) -> None:
    """Not migrated yet: wait, and say so."""
    async with AsyncExitStack() as stack:
        _, store = await opened(stack, empty_database)
        with pytest.raises(StoreUnavailable):
            await store.find(KEY)
        with pytest.raises(StoreUnavailable):
            await store.schema_version()


async def test_f32_row_that_another_session_holds_is_waited_for_within_bounds(
    harness: PostgresHarness, database: str
) -> None:
    """A lock that nobody lets go costs the caller its patience, and the process nothing."""
    await harness.installed()
    async with AsyncExitStack() as stack:
        _, store = await opened(stack, database, patience=IMPATIENCE)
        await store.find(KEY)
        async with await psycopg.AsyncConnection.connect(database) as other:
            await other.execute("SELECT * FROM token_broker.installs FOR UPDATE")
            with pytest.raises(StoreUnavailable):
                await store.claim(KEY, due(1))
    assert not (await harness.found()).install.in_doubt


# As the release before the history took claims and stored pairs, in short.
CLAIM_OF_THE_RELEASE_BEFORE: Final = """
UPDATE token_broker.installs
SET attempt = attempt + 1, claim_id = gen_random_uuid(), in_doubt = true, claim_owner = 'before',
    claim_expires_at = clock_timestamp() + interval '1 hour'
WHERE {}
"""
PAIR_OF_THE_RELEASE_BEFORE: Final = """
UPDATE token_broker.installs
SET generation = generation + 1, stored_attempt = attempt, in_doubt = false, claim_owner = NULL,
    claim_expires_at = NULL, access_token = %(access_token)s, refresh_token = %(refresh_token)s
WHERE {}
"""


async def test_f44_what_the_release_before_writes_is_not_mistaken_for_our_own(
    harness: PostgresHarness,
) -> None:
    """It runs beside us while a deployment rolls, and leaves our columns as they were."""
    await harness.installed()
    traced = await harness.take(replace(due(1), traceparent=TRACEPARENT))
    await harness.store().keep(traced, issued(harness.clock.now()))
    await harness.take(
        replace(due(2), traceparent=TRACEPARENT)
    )  # Killed, and its refresh token was presented once.
    await harness.end_claim()
    await harness.execute(CLAIM_OF_THE_RELEASE_BEFORE, KEY)
    held = await harness.store().claim(KEY, due(2))
    assert isinstance(held, ClaimHeld)
    assert held.traceparent == ""
    await harness.end_claim()
    minting = await harness.take(due(2))
    assert minting.presentations == 0
    noted = (await harness.store().history(KEY))[0]
    assert (noted.attempt, noted.ending, noted.owner) == (4, UNKNOWN, "before")
    assert (noted.purpose, noted.began_at, noted.trace_id) == ("", None, "")
    assert (await harness.found()).install.fetched_in == TRACEPARENT
    tokens = {column: CIPHER.seal(Secret(column), seal_context(column, KEY, 3)) for column in COLUMNS}
    await harness.execute(PAIR_OF_THE_RELEASE_BEFORE, KEY, **tokens)
    assert (await harness.found()).install.fetched_in == ""
    claim = await harness.take(replace(due(3), traceparent=TRACEPARENT))
    assert (claim.presentations, claim.install.fetched_in) == (1, "")
    assert (await harness.found()).install.fetched_in == ""
    await harness.execute(CLAIM_OF_THE_RELEASE_BEFORE, KEY)
    await harness.end_claim()
    assert (await harness.take(due(3))).attempt == claim.attempt + 2


async def test_database_keeps_no_token_in_plain(harness: PostgresHarness, database: str) -> None:
    """P5: neither the rows nor what a backup would hold of them."""
    pair = issued(harness.clock.now())
    await harness.installed(pair)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT i::text, * FROM token_broker.installs AS i")
        row = repr(await cursor.fetchone())
    assert pair.refresh_token is not None
    for token in (pair.access_token.reveal(), pair.refresh_token.reveal()):
        assert token not in row
        assert token.encode().hex() not in row
