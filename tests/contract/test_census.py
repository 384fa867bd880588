"""Census: what replicas count together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import psycopg
import pytest

from broker.adapters.postgres.census import PATIENCE, PostgresCensus
from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.provider_health import PostgresProviderHealth
from broker.domain.census import AppHealth, CensusOfInstalls, ExpiringOf, InstallsOf, Within, within
from broker.domain.claims import Resolution
from broker.domain.errors import Limited, OutcomeUnknown, StoreUnavailable
from broker.domain.identifiers import InstallKey
from broker.domain.installs import IssuedTokens
from broker.domain.provider_health import BURST, ProviderHealth, ProviderLimits
from broker.domain.secret import Secret
from broker.domain.states import InstallEvent, InstallState
from broker.ports import Census, ProviderHealthStore
from tests.contract.store_harness import AWAY, IMPATIENCE, MemoryHarness, PostgresHarness, StoreHarness
from tests.fakes.census import CensusRow, InMemoryCensus
from tests.fakes.provider_health import InMemoryProviderHealth
from tests.fakes.randomness import FakeRandomness
from tests.fakes.samples import CLAIM_LIFE, COMPANY, KEY, OTHER_APP, due, issued

LIMITS: Final = ProviderLimits(calls_per_second=100, probe_life=CLAIM_LIFE)
BURST_CALLS: Final = LIMITS.calls_per_second * BURST.total_seconds()
ALWAYS: Final = timedelta(0)
LONG: Final = timedelta(hours=1)
PLUGIN: Final = KEY.plugin_id
REFUSED: Final = Resolution("invalid_install", LONG, in_doubt=True, event=InstallEvent.MINT_REFUSED)


class Counting(NamedTuple):
    """A census under test, and what it counts. `new`: the census of another replica."""

    installs: StoreHarness
    health: ProviderHealthStore
    new: Callable[[], Census]


@pytest.fixture(params=["memory", "postgres"])
async def counting(request: pytest.FixtureRequest) -> AsyncIterator[Counting]:
    """The census over the fake or the real store."""
    if request.param == "memory":
        memory, row, records = MemoryHarness(), CensusRow(), dict[str, ProviderHealth]()
        yield Counting(
            memory,
            InMemoryProviderHealth(records, memory.clock, LIMITS, FakeRandomness()),
            lambda: InMemoryCensus(row, memory.table, records, LIMITS, memory.clock),
        )
        return
    async with AsyncExitStack() as stack:
        yield await counting_in_postgres(stack, request.getfixturevalue("database"))


async def counting_in_postgres(stack: AsyncExitStack, database: str) -> Counting:
    """The census over the real store."""
    harness = PostgresHarness(database)
    connections = Connections(Secret(database), max_size=4, patience=PATIENCE)
    for each in (harness, connections):
        await each.open()
        stack.push_async_callback(each.close)
    return Counting(
        harness,
        PostgresProviderHealth(connections, LIMITS, FakeRandomness()),
        lambda: PostgresCensus(connections, LIMITS, harness.clock),
    )


async def counted(census: Census, max_age: timedelta = ALWAYS) -> CensusOfInstalls:
    """What must have been counted."""
    answer = await census.take(max_age)
    assert answer is not None
    return answer


async def test_nothing_is_counted_as_nothing(counting: Counting) -> None:
    """A new broker's gauges are empty, and no error."""
    census = await counted(counting.new())
    assert (dict(census.installs), dict(census.expiring), census.apps) == ({}, {}, ())


async def test_installs_are_counted_by_app_state_and_failing(counting: Counting) -> None:
    """How many are affected, which is the first question at night."""
    harness = counting.installs
    keys = [InstallKey(PLUGIN, str(number)) for number in range(5)]
    for key in keys[:4]:
        await harness.installed(key=key)
    store = harness.store()
    await store.enrol(keys[4], COMPANY)
    await store.enrol(InstallKey(OTHER_APP.plugin_id, "1"), COMPANY)
    await store.bury(keys[0])
    timeout = Resolution("timeout", LONG, in_doubt=True)
    await store.resolve(await harness.take(due(1), keys[1]), timeout)
    await store.resolve(await harness.take(due(1), keys[2]), REFUSED)
    assert dict((await counted(counting.new())).installs) == {
        InstallsOf(PLUGIN, InstallState.UNINSTALLED, failing=False): 1,
        InstallsOf(PLUGIN, InstallState.ACTIVE, failing=True): 1,
        InstallsOf(PLUGIN, InstallState.REAUTHORIZATION_REQUIRED, failing=True): 1,
        InstallsOf(PLUGIN, InstallState.ACTIVE, failing=False): 1,
        InstallsOf(PLUGIN, InstallState.PROVISIONAL, failing=False): 1,
        InstallsOf(OTHER_APP.plugin_id, InstallState.PROVISIONAL, failing=False): 1,
    }


# An answer's age makes what is left a little less than what Envoy said.
LIVES: Final = {
    timedelta(minutes=-1): Within.EXPIRED,
    timedelta(minutes=4): Within.FIVE_MINUTES,
    timedelta(minutes=29): Within.HALF_AN_HOUR,
    timedelta(hours=1): Within.TWO_HOURS,
    timedelta(hours=11): Within.HALF_A_DAY,
    timedelta(hours=23): Within.DAY,
    timedelta(days=6): Within.WEEK,
    timedelta(days=8): Within.LATER,
}


def living(now: datetime, left: timedelta) -> IssuedTokens:
    """A pair whose access token has so long to live."""
    return issued(now - LONG, expires_in=left + LONG)


async def test_tokens_are_counted_by_their_time_to_expiry(counting: Counting) -> None:
    """A wave of them that nobody renews is seen hours before callers feel it. What is not served does not count."""
    harness = counting.installs
    for number, left in enumerate(LIVES):
        await harness.installed(living(harness.clock.now(), left), InstallKey(PLUGIN, str(number)))
    await harness.installed(key=InstallKey(PLUGIN, "buried"))
    await harness.store().bury(InstallKey(PLUGIN, "buried"))
    await harness.store().enrol(InstallKey(PLUGIN, "without a token"), COMPANY)
    refused = InstallKey(PLUGIN, "refused")
    await harness.installed(key=refused)
    await harness.store().resolve(await harness.take(due(1), refused), REFUSED)
    census = await counted(counting.new())
    assert dict(census.expiring) == {ExpiringOf(PLUGIN, each): 1 for each in LIVES.values()}
    assert {left: within(left) for left in LIVES} == LIVES


async def test_what_was_counted_just_now_is_not_counted_again(counting: Counting) -> None:
    """Counting reads the whole table: one replica does it for all."""
    one, other = counting.new(), counting.new()
    before = counting.installs.clock.now()
    first = await counted(one)
    await counting.installs.installed()
    again = await counted(other, LONG)
    assert dict(again.installs) == dict(first.installs) == {}
    assert before - LONG < again.counted_at <= counting.installs.clock.now()
    later = await counted(other)
    assert sum(later.installs.values()) == 1
    assert sum((await counted(one, LONG)).installs.values()) == 1


async def test_budget_and_circuit_are_told_as_they_are_now(counting: Counting) -> None:
    """Also while the count is an old one: whether Envoy is asked at all can't wait for the next."""
    census = counting.new()
    await counted(census)
    await counting.health.lease(OTHER_APP.plugin_id, 1, urgent=True)
    await counting.health.report(OTHER_APP.plugin_id, KEY.install_id, OutcomeUnknown("timeout"))
    await counting.health.report(PLUGIN, KEY.install_id, Limited(LONG))
    one, other = (await counted(census, LONG)).apps
    assert (one.plugin_id, one.calls_left, one.circuit) == (PLUGIN, 0, "rate_limited")
    assert one.open_until is not None
    assert timedelta(0) < one.open_until - counting.installs.clock.now() <= LONG
    assert other == AppHealth(OTHER_APP.plugin_id, other.calls_left, "", None)
    assert BURST_CALLS - 1 <= other.calls_left <= BURST_CALLS


async def test_many_at_once_count_once(counting: Counting) -> None:
    """Replicas start together after a deployment."""
    await counting.installs.installed()
    answers = await asyncio.gather(*(counting.new().take(LONG) for _ in range(8)))
    known = [answer for answer in answers if answer is not None]
    assert known
    assert all(sum(answer.installs.values()) == 1 for answer in known)
    await counting.installs.installed(key=InstallKey(PLUGIN, "came later"))
    assert sum((await counted(counting.new(), LONG)).installs.values()) == 1


async def test_f32_who_finds_another_counting_reads_what_stands_there(database: str) -> None:
    """Nobody waits for a count, and nothing is counted twice at a time."""
    async with AsyncExitStack() as stack:
        counting = await counting_in_postgres(stack, database)
        census, store = counting.new(), counting.installs.store()
        async with another_counts(database):
            assert await census.take(ALWAYS) is None
        await counted(census)
        await store.enrol(KEY, COMPANY)
        async with another_counts(database):
            assert dict((await counted(census)).installs) == {}
        assert sum((await counted(census)).installs.values()) == 1


@asynccontextmanager
async def another_counts(database: str) -> AsyncIterator[None]:
    """Another replica has begun to count, and is not done."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute("SELECT * FROM token_broker.census FOR UPDATE")
        yield


async def test_f34_database_away_is_store_unavailable() -> None:
    """The gauges are missing then, and nothing else is."""
    connections = Connections(Secret(AWAY), max_size=1, patience=IMPATIENCE)
    await connections.open()
    with pytest.raises(StoreUnavailable):
        await PostgresCensus(connections, LIMITS, MemoryHarness().clock).take(ALWAYS)
    await connections.close()
