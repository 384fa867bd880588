"""ProviderHealth: the budget, and the circuit, as pure functions of the database's time."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from broker.domain.errors import ClientRefused, Limited, OutcomeUnknown, ProviderFault
from broker.domain.provider_health import (
    BURST,
    CLIENT_REFUSED,
    INSTALLS_TO_OPEN,
    INSTALLS_TO_OPEN_IF_REFUSED,
    PROBE_LOOK,
    RAMP,
    RAMP_FROM,
    ProviderHealth,
    ProviderLimits,
    after_answer,
    first_health,
    leased,
)
from tests.fakes.clock import NOON

SECOND: Final = timedelta(seconds=1)
LIMITS: Final = ProviderLimits(calls_per_second=10, probe_life=45 * SECOND)
PATIENCE: Final = 7 * SECOND
LIMITED: Final = Limited(PATIENCE)
FAILED: Final = OutcomeUnknown("http_500")


def failing(
    *installs: str, fault: ProviderFault = FAILED, health: ProviderHealth | None = None
) -> ProviderHealth:
    """The record after a call for each of these installs has failed."""
    health = health or first_health(NOON)
    for install_id in installs:
        health = after_answer(health, install_id, fault, now=NOON, fraction=0.5)
    return health


def test_f16_budget_is_a_burst_of_a_second_and_then_its_rate() -> None:
    """Whatever is asked for: the bucket gives what came in, and says when the next call comes in."""
    health, first = leased(first_health(NOON), 100, urgent=True, limits=LIMITS, now=NOON)
    assert first.calls == LIMITS.calls_per_second * BURST.total_seconds()
    health, none = leased(health, 100, urgent=True, limits=LIMITS, now=NOON)
    assert (none.calls, none.retry_in) == (0, SECOND / LIMITS.calls_per_second)
    health, some = leased(health, 100, urgent=True, limits=LIMITS, now=NOON + SECOND / 2)
    assert some.calls == LIMITS.calls_per_second / 2
    _, full = leased(health, 100, urgent=True, limits=LIMITS, now=NOON + timedelta(days=1))
    assert full.calls == first.calls


def test_f16_calls_that_nobody_waits_for_leave_a_reserve() -> None:
    """A scheduler with a long backlog must not make callers wait for the bucket to fill."""
    health, swept = leased(first_health(NOON), 100, urgent=False, limits=LIMITS, now=NOON)
    assert swept.calls == 8
    health, none = leased(health, 100, urgent=False, limits=LIMITS, now=NOON)
    assert none.calls == 0
    _, waited_for = leased(health, 100, urgent=True, limits=LIMITS, now=NOON)
    assert waited_for.calls == 2


def test_budget_below_one_call_a_second_still_gives_calls() -> None:
    """Also to the scheduler: a reserve of the whole bucket would starve it for ever."""
    slow = replace(LIMITS, calls_per_second=0.1)
    health, first = leased(first_health(NOON), 1, urgent=False, limits=slow, now=NOON)
    assert first.calls == 1
    _, second = leased(health, 1, urgent=False, limits=slow, now=NOON + 10 * SECOND)
    assert second.calls == 1


@pytest.mark.parametrize("fault", [LIMITED, OutcomeUnknown("http_503", PATIENCE)], ids=["429", "503"])
def test_f09_circuit_opens_at_once_for_as_long_as_envoy_asks(fault: ProviderFault) -> None:
    """One such answer speaks for every install of the app."""
    health = failing("1", fault=fault)
    assert health.open_until == NOON + PATIENCE
    _, lease = leased(health, 1, urgent=True, limits=LIMITS, now=NOON + PATIENCE / 2)
    assert (lease.calls, lease.retry_in, lease.circuit) == (0, PATIENCE / 2, fault.kind)


def test_f09_circuit_opens_for_seconds_where_envoy_names_no_time() -> None:
    """Not for a fraction of one, even with the least of luck."""
    health = after_answer(first_health(NOON), "1", Limited(None), now=NOON, fraction=0.0)
    assert health.open_until is not None
    assert health.open_until > NOON + SECOND


def test_f09_answer_to_a_call_from_before_does_not_end_the_hold() -> None:
    """It was sent before Envoy asked for patience. A later 429 prolongs, and never shortens."""
    held = failing("1", fault=LIMITED)
    assert after_answer(held, "2", None, now=NOON + SECOND, fraction=0.5) == held
    assert after_answer(held, "2", FAILED, now=NOON + SECOND, fraction=0.5) == held
    shorter = after_answer(held, "2", Limited(SECOND), now=NOON + SECOND, fraction=0.5)
    longer = after_answer(held, "2", Limited(10 * PATIENCE), now=NOON + SECOND, fraction=0.5)
    assert shorter.open_until == held.open_until
    assert longer.open_until == NOON + SECOND + 10 * PATIENCE
    assert longer.openings == held.openings


def test_f19_one_poisoned_install_never_opens_the_circuit() -> None:
    """It fails a hundred times; the others go on."""
    assert not failing(*["poisoned"] * 100).is_open


def test_f10_several_installs_in_a_row_open_the_circuit_and_a_success_between_them_does_not_let_it() -> None:
    """Many failing in a row is Envoy's doing, not theirs."""
    several = [str(number) for number in range(INSTALLS_TO_OPEN)]
    assert not failing(*several[:-1]).is_open
    assert failing(*several).is_open
    nearly = after_answer(failing(*several[:-1]), "good", None, now=NOON, fraction=0.5)
    assert not failing(several[-1], health=nearly).is_open


def test_f08_refused_client_opens_the_circuit_sooner() -> None:
    """At once where Envoy names the client; else when two installs agree, so that one odd answer proves nothing."""
    assert failing("1", fault=ClientRefused("invalid_client", named=True)).is_open
    unnamed = ClientRefused("http_401", named=False)
    two = [str(number) for number in range(INSTALLS_TO_OPEN_IF_REFUSED)]
    assert not failing(two[0], fault=unnamed).is_open
    assert failing(*two, fault=unnamed).kind == CLIENT_REFUSED


def test_f10_one_probe_is_let_through_when_the_time_is_over() -> None:
    """No herd: who comes second looks again soon, for the probe may succeed any moment."""
    over = NOON + PATIENCE
    health, probe = leased(failing("1", fault=LIMITED), 5, urgent=False, limits=LIMITS, now=over)
    assert (probe.calls, probe.circuit) == (1, "")
    _, second = leased(health, 5, urgent=True, limits=LIMITS, now=over + SECOND)
    assert (second.calls, second.retry_in) == (0, PROBE_LOOK)


def test_f10_probe_that_is_never_heard_of_again_is_followed_by_another() -> None:
    """Its process may have died."""
    over = NOON + PATIENCE
    health, _ = leased(failing("1", fault=LIMITED), 1, urgent=True, limits=LIMITS, now=over)
    _, again = leased(health, 1, urgent=True, limits=LIMITS, now=over + LIMITS.probe_life)
    assert again.calls == 1


def test_f10_probe_that_succeeds_closes_the_circuit_and_the_rate_grows_slowly() -> None:
    """Envoy is back, and not yet strong."""
    over = NOON + PATIENCE
    health, _ = leased(failing("1", fault=LIMITED), 1, urgent=True, limits=LIMITS, now=over)
    closed = after_answer(health, "1", None, now=over, fraction=0.5)
    assert not closed.is_ailing
    _, soon = leased(closed, 100, urgent=True, limits=LIMITS, now=over + SECOND)
    assert soon.calls == LIMITS.calls_per_second * RAMP_FROM
    _, later = leased(closed, 100, urgent=True, limits=LIMITS, now=over + RAMP)
    assert later.calls == LIMITS.calls_per_second


def test_f10_probe_that_fails_opens_the_circuit_for_longer() -> None:
    """Each time it doubles, up to a bound; so hours of failures cost few calls."""
    health, now, waits = failing(*map(str, range(INSTALLS_TO_OPEN))), NOON, []
    for _ in range(12):
        assert health.open_until is not None
        waits.append(health.open_until - now)
        now = health.open_until
        health, _ = leased(health, 1, urgent=True, limits=LIMITS, now=now)
        health = after_answer(health, "1", FAILED, now=now, fraction=0.5)
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] == waits[-2]


def test_f08_operator_who_insists_probes_a_refused_client_at_once_but_not_a_limited_one() -> None:
    """A mended secret must not wait for a back-off. Where Envoy asked for patience nobody insists."""
    refused = failing("1", fault=ClientRefused("invalid_client", named=True))
    _, lease = leased(refused, 1, urgent=True, limits=LIMITS, now=NOON, insist=True)
    assert lease.calls == 1
    _, lease = leased(failing("1", fault=LIMITED), 1, urgent=True, limits=LIMITS, now=NOON, insist=True)
    assert lease.calls == 0
