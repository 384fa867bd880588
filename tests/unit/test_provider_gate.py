"""ProviderGate: slots, leased calls, and the circuit as one process knows it."""

import asyncio
from datetime import timedelta
from typing import Final

import pytest

from broker.domain.errors import (
    ClientCredentialsRefused,
    ClientRefused,
    Limited,
    Overloaded,
    ProviderUnavailable,
    StoreUnavailable,
)
from broker.domain.provider_health import ProviderHealth, ProviderLimits
from broker.service.provider_gate import LEASE_LIFE, ProviderGate
from tests.fakes.clock import FakeClock
from tests.fakes.hints import FakeHints
from tests.fakes.provider_health import InMemoryProviderHealth
from tests.fakes.randomness import FakeRandomness
from tests.fakes.samples import CLAIM_LIFE, KEY
from tests.fakes.steps import settled
from tests.fakes.store_faults import Moment, StoreFaults

PLUGIN: Final = KEY.plugin_id
SECOND: Final = timedelta(seconds=1)
SLOTS: Final = 4
PATIENCE: Final = 20 * SECOND


class Gates:
    """The gates of replicas that share one record."""

    def __init__(self, calls_per_second: float = 1000) -> None:
        self.clock = FakeClock()
        self.hints = FakeHints()
        self.faults = StoreFaults()
        self.limits = ProviderLimits(calls_per_second, probe_life=CLAIM_LIFE)
        records: dict[str, ProviderHealth] = {}
        self.health = InMemoryProviderHealth(records, self.clock, self.limits, FakeRandomness(), self.faults)

    def gate(self, slots: int = SLOTS) -> ProviderGate:
        """One of a new replica."""
        own = self.hints.joined()
        gate = ProviderGate(
            self.health, self.clock, own, slots=slots,
            calls_per_second=self.limits.calls_per_second, patience=PATIENCE,
        )  # fmt: skip
        own.on_health_hint = gate.forget
        return gate


@pytest.fixture
def gates() -> Gates:
    """Calls enough."""
    return Gates()


class Caller:
    """Somebody who holds a place until told to leave, in a task of their own."""

    def __init__(self, gate: ProviderGate, *, urgent: bool = True, insist: bool = False) -> None:
        self.urgent = urgent
        self.is_in = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._enter(gate, insist=insist))

    async def _enter(self, gate: ProviderGate, *, insist: bool) -> None:
        async with gate.admitted(PLUGIN, lambda: self.urgent, insist=insist) as admission:
            self.is_in = True
            admission.spend()
            await self._leave.wait()

    async def leaves(self) -> None:
        """Give the place back."""
        self._leave.set()
        await self.task


async def inside(*callers: Caller) -> list[bool]:
    """Who is in, once all has settled."""
    await settled()
    return [caller.is_in for caller in callers]


async def test_slots_bound_who_calls_and_keep_a_reserve_for_those_who_wait(gates: Gates) -> None:
    """A sweep with a long backlog takes three of four; the last one is for callers."""
    gate = gates.gate()
    swept = [Caller(gate, urgent=False) for _ in range(SLOTS)]
    assert await inside(*swept) == [True, True, True, False]
    waited_for = Caller(gate)
    assert await inside(waited_for, swept[-1]) == [True, False]
    for caller in (*swept[:2], waited_for):
        await caller.leaves()
    assert await inside(swept[-1]) == [True]


async def test_urgent_go_first_and_else_who_came_first(gates: Gates) -> None:
    """Those that a caller waits for overtake the scheduler's."""
    gate = gates.gate(slots=1)
    holder = Caller(gate)
    await settled()
    swept, first, second = Caller(gate, urgent=False), Caller(gate), Caller(gate)
    await settled()
    order = []
    for leaving in (holder, first, second):
        await leaving.leaves()
        order.append(await inside(first, second, swept))
    assert order == [[True, False, False], [True, True, False], [True, True, True]]


async def test_caller_who_joins_makes_a_waiting_refresh_urgent(gates: Gates) -> None:
    """It was begun behind a stale token, and the reserve was not for it; now somebody waits."""
    gate = gates.gate()
    swept = [Caller(gate, urgent=False) for _ in range(SLOTS)]
    assert await inside(swept[-1]) == [False]
    swept[-1].urgent = True
    gate.promote()
    assert await inside(swept[-1]) == [True]


async def test_f17_who_is_cancelled_in_the_queue_or_inside_leaves_no_place_taken(gates: Gates) -> None:
    """Else every cancellation would cost a slot for good."""
    gate = gates.gate(slots=1)
    for _ in range(3):
        holder, waiting = Caller(gate), Caller(gate)
        await settled()
        waiting.task.cancel()
        holder.task.cancel()
        await asyncio.gather(waiting.task, holder.task, return_exceptions=True)
    assert await inside(Caller(gate)) == [True]


async def test_wait_for_a_slot_is_bounded(gates: Gates) -> None:
    """The caller is told to come again, in words."""
    gate = gates.gate(slots=1)
    holder = Caller(gate)
    await settled()
    waiting = Caller(gate)
    await settled()
    gates.clock.advance(PATIENCE)
    with pytest.raises(Overloaded):
        await waiting.task
    await holder.leaves()


async def test_f16_replicas_share_one_budget() -> None:
    """Ten calls a second for both together: the eleventh waits until one has come in."""
    gates = Gates(calls_per_second=10)
    callers = [Caller(gate) for gate in (gates.gate(100), gates.gate(100)) for _ in range(8)]
    assert sum(await inside(*callers)) == 10
    for _ in range(40):
        gates.clock.advance(SECOND / 20)
        await settled()
    assert all(await inside(*callers))


async def test_lease_serves_many_calls_and_is_forfeited_when_it_has_rested(gates: Gates) -> None:
    """A busy replica pays no transaction for each call; a leased call that was not made is not hoarded."""
    gate = gates.gate(100)
    for _ in range(3):
        await Caller(gate).leaves()
    few = gates.health.leases
    for _ in range(100):
        await Caller(gate).leaves()
    assert gates.health.leases - few <= 2
    few = gates.health.leases
    gates.clock.advance(LEASE_LIFE)
    await Caller(gate).leaves()
    assert gates.health.leases == few + 1


async def test_call_that_was_not_made_is_given_back() -> None:
    """An adopted token costs none of the budget."""
    gates = Gates(calls_per_second=1)
    gate = gates.gate()
    for _ in range(5):
        async with gate.admitted(PLUGIN, lambda: True):
            pass
    assert gates.health.leases == 1


async def test_f09_open_circuit_refuses_without_asking_the_database(gates: Gates) -> None:
    """Callers are told when to come again; those who wait already are sent away too."""
    gate = gates.gate(slots=1)
    await gate.report(KEY, Limited(10 * SECOND))
    with pytest.raises(ProviderUnavailable) as refused:
        await Caller(gate).task
    assert refused.value.retry_after == 10 * SECOND
    asked = gates.health.leases
    with pytest.raises(ProviderUnavailable):
        await Caller(gate).task
    assert gates.health.leases == asked
    assert gate.held_apps() == {PLUGIN: "rate_limited"}


async def test_f09_hint_makes_another_replica_forfeit_what_it_has_leased(gates: Gates) -> None:
    """Else it would call for as long as its lease lasts, though Envoy asked for patience."""
    told, other = gates.gate(), gates.gate()
    await Caller(other).leaves()
    await Caller(other).leaves()
    await told.report(KEY, Limited(10 * SECOND))
    with pytest.raises(ProviderUnavailable):
        await Caller(other).task


async def test_f10_hint_that_the_circuit_closed_lets_the_others_call_at_once(gates: Gates) -> None:
    """They need not wait until they look again."""
    prober, other = gates.gate(), gates.gate()
    await prober.report(KEY, Limited(SECOND))
    for gate in (prober, other):
        with pytest.raises(ProviderUnavailable):
            await Caller(gate).task
    gates.clock.advance(SECOND)
    probe = Caller(prober)
    assert await inside(probe) == [True]
    with pytest.raises(ProviderUnavailable):
        await Caller(other).task
    await prober.report(KEY, None)
    assert (prober.held_apps(), other.held_apps()) == ({}, {})
    gates.clock.advance(SECOND)
    assert await inside(Caller(other)) == [True]
    await probe.leaves()


async def test_f08_who_insists_probes_a_refused_client_at_once(gates: Gates) -> None:
    """An operator has mended the secret; everybody else is told that the app's credentials are refused."""
    gate = gates.gate()
    await gate.report(KEY, ClientRefused("invalid_client", named=True))
    with pytest.raises(ClientCredentialsRefused):
        await Caller(gate).task
    assert await inside(Caller(gate, insist=True)) == [True]


async def test_healthy_record_is_not_told_of_successes(gates: Gates) -> None:
    """A refresh then costs two transactions, and no third one."""
    gate = gates.gate()
    await Caller(gate).leaves()
    gates.faults.next("report", Moment.BEFORE)
    await gate.report(KEY, None)
    assert gates.faults.take("report") is not None


async def test_f34_without_the_record_nobody_calls(gates: Gates) -> None:
    """The database is away: no claim could be committed either."""
    gate = gates.gate()
    gates.faults.next("lease", Moment.BEFORE)
    with pytest.raises(StoreUnavailable):
        await Caller(gate).task
    assert await inside(Caller(gate)) == [True]
