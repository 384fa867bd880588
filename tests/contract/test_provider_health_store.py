"""ProviderHealthStore: what one replica learns of Envoy, another one knows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Final

import pytest

from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.provider_health import PostgresProviderHealth
from broker.domain.errors import ClientRefused, Limited
from broker.domain.provider_health import CLIENT_REFUSED, ProviderHealth, ProviderLimits
from broker.domain.secret import Secret
from broker.ports import ProviderHealthStore
from tests.contract.store_harness import PATIENCE
from tests.fakes.clock import FakeClock
from tests.fakes.provider_health import InMemoryProviderHealth
from tests.fakes.randomness import FakeRandomness
from tests.fakes.samples import CLAIM_LIFE, KEY, OTHER_APP

SECOND: Final = timedelta(seconds=1)
# So slow that none comes in while a test runs.
LIMITS: Final = ProviderLimits(calls_per_second=0.001, probe_life=CLAIM_LIFE)
PLUGIN: Final = KEY.plugin_id
NewStore = Callable[[ProviderLimits], ProviderHealthStore]


@pytest.fixture(params=["memory", "postgres"])
async def new_store(request: pytest.FixtureRequest) -> AsyncIterator[NewStore]:
    """Makes stores that share their records, as of several replicas."""
    randomness = FakeRandomness()
    if request.param == "memory":
        records: dict[str, ProviderHealth] = {}
        clock = FakeClock()
        yield lambda limits: InMemoryProviderHealth(records, clock, limits, randomness)
        return
    connections = Connections(Secret(request.getfixturevalue("database")), max_size=4, patience=PATIENCE)
    await connections.open()
    yield lambda limits: PostgresProviderHealth(connections, limits, randomness)
    await connections.close()


async def test_f16_budget_is_one_for_all_replicas_and_each_app_has_its_own(new_store: NewStore) -> None:
    """The bucket of one call: who comes first has it."""
    stores = [new_store(LIMITS) for _ in range(3)]
    leases = await asyncio.gather(*(store.lease(PLUGIN, 1, urgent=True) for store in stores))
    assert sorted(lease.calls for lease in leases) == [0, 0, 1]
    assert (await stores[0].lease(OTHER_APP.plugin_id, 1, urgent=True)).calls == 1


async def test_f16_many_leases_at_once_give_no_call_twice(new_store: NewStore) -> None:
    """The record is locked while it is changed."""
    store = new_store(ProviderLimits(calls_per_second=20, probe_life=CLAIM_LIFE))
    leases = await asyncio.gather(*(store.lease(PLUGIN, 3, urgent=True) for _ in range(30)))
    # A burst of 20, and what comes in while the test runs.
    assert 20 <= sum(lease.calls for lease in leases) <= 60


async def test_f09_circuit_that_one_opened_is_open_for_another(new_store: NewStore) -> None:
    """With the reason and the time, which is counted on the database's clock."""
    one, other = new_store(LIMITS), new_store(LIMITS)
    health = await one.report(PLUGIN, "1", Limited(100 * SECOND))
    assert health.is_open
    lease = await other.lease(PLUGIN, 1, urgent=True)
    assert (lease.calls, lease.circuit) == (0, "rate_limited")
    assert 50 * SECOND < lease.retry_in <= 100 * SECOND
    assert (await other.lease(OTHER_APP.plugin_id, 1, urgent=True)).calls == 1


async def test_f10_exactly_one_of_many_replicas_probes_and_its_success_closes_the_circuit(
    new_store: NewStore,
) -> None:
    """The others are turned away until then."""
    stores = [new_store(LIMITS) for _ in range(5)]
    await stores[0].report(PLUGIN, "1", ClientRefused("invalid_client", named=True))
    leases = await asyncio.gather(*(store.lease(PLUGIN, 1, urgent=True, insist=True) for store in stores))
    assert sorted(lease.calls for lease in leases) == [0, 0, 0, 0, 1]
    assert {lease.circuit for lease in leases if not lease.calls} == {CLIENT_REFUSED}
    closed = await stores[1].report(PLUGIN, "1", None)
    assert not closed.is_ailing
    assert not (await stores[2].lease(PLUGIN, 1, urgent=True)).circuit
