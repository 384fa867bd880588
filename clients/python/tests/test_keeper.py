"""Which calls are made, as pure rules."""

import pytest

from clients.python.tests.test_memory import NOW, failure, token
from tokenbroker.client.errors import CLOSED, Failure, Reason
from tokenbroker.client.keeper import Flight, Keeper, Outcome
from tokenbroker.client.memory import Memory

STALE = NOW + 301


class Landing:
    """Where a flight ends."""

    def __init__(self) -> None:
        self.results: list[Outcome] = []

    def set_result(self, result: Outcome, /) -> None:
        """It ends once."""
        self.results.append(result)


@pytest.fixture
def keeper() -> Keeper[Landing]:
    """One that remembers nothing yet."""
    return Keeper(Memory(max_age=300, max_installs=10), Landing)


def begun(keeper: Keeper[Landing], now: float = NOW) -> Flight[Landing]:
    """A call that has begun."""
    step = keeper.ask("a", now)
    assert step.begins
    assert step.flight is not None
    return step.flight


def test_flight_begins_once_and_all_wait_for_it(keeper: Keeper[Landing]) -> None:
    """One call, however many want it."""
    flight = begun(keeper)
    assert keeper.ask("a", NOW) == (None, flight, False)
    assert not keeper.land(flight, token(), NOW)
    assert [each.generation for each in flight.landing.results if not isinstance(each, Failure)] == [1]


def test_installs_have_flights_of_their_own(keeper: Keeper[Landing]) -> None:
    """One company's trouble is not another's."""
    begun(keeper)
    assert keeper.ask("b", NOW).begins


def test_failed_flight_is_followed_by_another(keeper: Keeper[Landing]) -> None:
    """Failures are not remembered."""
    flight = begun(keeper)
    keeper.land(flight, failure(Reason.INTERNAL), NOW)
    assert keeper.ask("a", NOW).begins


def test_stale_token_is_served_while_its_refresh_waits(keeper: Keeper[Landing]) -> None:
    """And no refresh begins before its time."""
    keeper.land(begun(keeper), token(), NOW)
    step = keeper.ask("a", STALE)
    assert step.token is not None
    assert step.begins
    assert step.flight is not None
    keeper.land(step.flight, failure(Reason.BROKER_UNREACHABLE), STALE)
    assert keeper.ask("a", STALE + 0.9) == (step.token, None, False)
    assert keeper.ask("a", STALE + 1).begins


@pytest.mark.parametrize("act", ["rejected", "withdraw", "forget"])
def test_call_that_was_made_too_early_is_made_again(keeper: Keeper[Landing], act: str) -> None:
    """Its answer may be of before what was learnt meanwhile."""
    known = token()
    keeper.land(begun(keeper), known, NOW)
    flight = begun(keeper, STALE)
    getattr(keeper, act)(known if act == "rejected" else "a")
    assert keeper.land(flight, token(), STALE)
    assert keeper.ask("a", STALE) == (None, flight, False)
    assert not keeper.land(flight, token(), STALE)


def test_call_that_brings_a_newer_generation_is_not_made_again(keeper: Keeper[Landing]) -> None:
    """Of that nothing was said."""
    keeper.land(begun(keeper), token(), NOW)
    flight = begun(keeper, STALE)
    keeper.withdraw("a")
    assert not keeper.land(flight, token(generation=2), STALE)


def test_what_is_closed_remembers_nothing_and_tells_who_waits(keeper: Keeper[Landing]) -> None:
    """Also of the calls that end afterwards."""
    flight = begun(keeper)
    keeper.clear(CLOSED)
    assert flight.landing.results == [CLOSED]
    assert not keeper.land(flight, token(), NOW)
    assert flight.landing.results == [CLOSED]
    assert not keeper.memory.entries
