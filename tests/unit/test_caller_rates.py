"""How often one caller may call."""

from datetime import timedelta

import pytest

from broker.api.caller_rates import BURST, MAX_CALLERS, CallerRates
from broker.domain.callers import Caller, KnownBy
from broker.domain.errors import Overloaded

RATE = 10
AT_ONCE = int(RATE * BURST.total_seconds())
WILD, CALM = Caller("wild", KnownBy.TOKEN), Caller("calm", KnownBy.CERTIFICATE)


class Time:
    """Time that a test moves."""

    def __init__(self) -> None:
        self._nanoseconds = 10**12

    def __call__(self) -> int:
        """Nanoseconds."""
        return self._nanoseconds

    def passes(self, duration: timedelta) -> None:
        """Move it."""
        self._nanoseconds += round(duration.total_seconds() * 1e9)


def calls_that_pass(rates: CallerRates, caller: Caller, count: int) -> int:
    """How many of `count` calls at once get through."""
    passed = 0
    for _ in range(count):
        try:
            rates.count(caller)
        except Overloaded:
            continue
        passed += 1
    return passed


def test_f45_caller_that_runs_wild_is_shed_and_the_others_are_not() -> None:
    """One service's loop must not cost another one its tokens."""
    rates = CallerRates(RATE, Time())
    assert calls_that_pass(rates, WILD, 10 * AT_ONCE) == AT_ONCE
    assert calls_that_pass(rates, CALM, AT_ONCE) == AT_ONCE


def test_f45_shed_caller_is_told_when_to_come_back_and_then_served() -> None:
    """The rate is the caller's over any time: what was shed costs nothing."""
    time = Time()
    rates = CallerRates(RATE, time)
    calls_that_pass(rates, WILD, 10 * AT_ONCE)
    with pytest.raises(Overloaded) as shed:
        rates.count(WILD)
    time.passes(shed.value.retry_after)
    assert calls_that_pass(rates, WILD, AT_ONCE) == 1
    time.passes(3 * BURST)
    assert calls_that_pass(rates, WILD, 10 * AT_ONCE) == AT_ONCE


def test_callers_that_nobody_has_named_are_not_counted_together() -> None:
    """On loopback everybody is anybody: one bucket for all would be a limit for the machine."""
    rates = CallerRates(RATE, Time())
    anybody = Caller("anybody", KnownBy.NOTHING)
    assert calls_that_pass(rates, anybody, 10 * AT_ONCE) == 10 * AT_ONCE


def test_f45_names_from_outside_take_bounded_memory() -> None:
    """Whoever may mint certificates could call under a new name each time."""
    rates = CallerRates(RATE, Time())
    calls_that_pass(rates, WILD, AT_ONCE)
    for number in range(MAX_CALLERS):
        rates.count(Caller(f"caller-{number}", KnownBy.TOKEN))
    assert calls_that_pass(rates, WILD, 10 * AT_ONCE) == AT_ONCE
