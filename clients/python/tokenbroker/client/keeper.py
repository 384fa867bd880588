"""What to do when a token is asked for: serve it, call the broker, or wait for a call that is under way.

The rules of both clients, without I/O: whoever drives it makes the calls that it is told to begin, by threads or by
tasks, and brings what they end with. One thread at a time.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from tokenbroker.client.errors import Failure
from tokenbroker.client.memory import NO_GENERATION, Memory
from tokenbroker.client.token import Seconds, Token

Outcome = Token | Failure


class Landing(Protocol):
    """Where those who wait for a call find what it ended with: a future, of concurrent.futures or of asyncio."""

    def set_result(self, result: Outcome, /) -> None:
        """It has ended."""


L = TypeVar("L", bound=Landing)


class Flight(Generic[L]):
    """The one call for an install that is under way, and belongs to nobody: whoever gives up leaves it to the others."""

    __slots__ = ("install", "landing", "void_up_to")

    def __init__(self, install: str, landing: L) -> None:
        self.install = install
        self.landing = landing
        # The newest generation that was taken out of use since it began. That it brings that one tells nothing.
        self.void_up_to = NO_GENERATION


class Step(NamedTuple, Generic[L]):
    """What to do for one who asks.

    Attributes:
        token: serve this. None: wait until the flight has landed.
        flight: None if no call is needed.
        begins: the flight is new: make its call.
    """

    token: Token | None
    flight: Flight[L] | None
    begins: bool


class Keeper(Generic[L]):
    """The memory, and the calls under way."""

    def __init__(self, memory: Memory, new_landing: Callable[[], L]) -> None:
        self.memory = memory
        self._new_landing = new_landing
        self._flights: dict[str, Flight[L]] = {}

    def ask(self, install: str, now: Seconds) -> Step[L]:
        """What to do for one who asks for the token of an install."""
        token = self.memory.usable(install, now)
        entry = self.memory.entries.get(install)
        if entry is not None:
            entry.asked_at = now
            if token is not None and now < entry.refresh_at:
                return Step(token, None, begins=False)
        flight = self._flights.get(install)
        if flight is not None:
            return Step(token, flight, begins=False)
        flight = self._flights[install] = Flight(install, self._new_landing())
        return Step(token, flight, begins=True)

    def land(self, flight: Flight[L], outcome: Outcome, now: Seconds) -> bool:
        """A call has ended. Whether it must be made again: it was made too early to say what holds now."""
        if self._flights.get(flight.install) is not flight:
            return False
        if isinstance(outcome, Token):
            if outcome.generation <= flight.void_up_to:
                flight.void_up_to = NO_GENERATION
                return True
            outcome = self.memory.remember(outcome, now)
        else:
            self.memory.failed(flight.install, outcome, now)
        del self._flights[flight.install]
        flight.landing.set_result(outcome)
        return False

    def knows_newer(self, token: Token, now: Seconds) -> bool:
        """Whether a newer generation may be used."""
        newest = self.memory.usable(token.install_id, now)
        return newest is not None and newest.generation > token.generation

    def rejected(self, token: Token) -> None:
        """Envoy has answered 401 to it, and the broker knows: neither memory nor a call under way may bring it back."""
        self.memory.reject(token.install_id, token.generation)
        self._void(token.install_id, token.generation)

    def withdraw(self, install: str) -> None:
        """What is known of the install must not be used; so must not what a call under way brings, if it is no newer."""
        self._void(install, self.memory.generation(install))
        self.memory.withdraw(install)

    def forget(self, install: str) -> None:
        """There is no such install any more."""
        self._void(install, self.memory.generation(install))
        self.memory.forget(install)

    def clear(self, why: Failure) -> None:
        """Forget all. `why`: what those who wait are told."""
        self.memory.clear()
        for flight in self.drop_flights():
            flight.landing.set_result(why)

    def drop_flights(self) -> list[Flight[L]]:
        """The calls under way are nobody's any more: what they end with changes nothing."""
        flights = list(self._flights.values())
        self._flights.clear()
        return flights

    def _void(self, install: str, up_to: int) -> None:
        flight = self._flights.get(install)
        if flight is not None:
            flight.void_up_to = max(flight.void_up_to, up_to)
