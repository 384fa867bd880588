"""The ways in which a store lets its callers down."""

from collections import deque
from datetime import timedelta
from enum import Enum
from typing import Final

from broker.domain.errors import BrokerError, StoreUnavailable

RETRY_AFTER: Final = timedelta(seconds=1)


class Moment(Enum):
    """BEFORE anything was done, or AFTER it was committed, when the caller can't tell."""

    BEFORE = "before"
    AFTER = "after"


class StoreFaults:
    """What goes wrong next, by verb; and whether the store is away altogether."""

    def __init__(self) -> None:
        self.away = False
        self._next: dict[str, deque[tuple[Moment, BrokerError]]] = {}

    def next(
        self,
        verb: str,
        moment: Moment = Moment.BEFORE,
        *,
        times: int = 1,
        error: BrokerError | None = None,
    ) -> None:
        """Let the next `times` calls of `verb` fail."""
        failure = error or StoreUnavailable("the fake store was told to fail", RETRY_AFTER)
        self._next.setdefault(verb, deque()).extend([(moment, failure)] * times)

    def take(self, verb: str) -> tuple[Moment, BrokerError] | None:
        """What befalls this call of `verb`."""
        if self.away:
            return Moment.BEFORE, StoreUnavailable("the fake store is away", RETRY_AFTER)
        planned = self._next.get(verb)
        return planned.popleft() if planned else None
