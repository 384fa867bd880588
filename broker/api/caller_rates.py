"""How often one caller may call one replica: so that one that runs wild does not take the others' places.

A bucket for each caller, kept as the one moment at which it would be full (the generic cell rate algorithm, ITU-T I.371).
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from broker.domain.callers import Caller, KnownBy
from broker.domain.errors import Overloaded

# What a caller may send at once after a quiet time.
BURST: Final = timedelta(seconds=1)
# Callers are few; a bound all the same, since their names come from outside. The least lately heard of is forgotten.
MAX_CALLERS: Final = 10_000
_NANOSECONDS: Final = 1_000_000_000
_BURST_NANOSECONDS: Final = round(BURST.total_seconds() * _NANOSECONDS)


class CallerRates:
    """Sheds calls of callers that call more than `calls_per_second`. `now`: nanoseconds that never jump."""

    def __init__(self, calls_per_second: float, now: Callable[[], int]) -> None:
        self._interval = round(_NANOSECONDS / calls_per_second)
        self._now = now
        self._full_at: OrderedDict[Caller, int] = OrderedDict()

    def count(self, caller: Caller) -> None:
        """Count a call. Callers who are nobody in particular are not told apart, so they are not counted.

        Raises:
            Overloaded: it is one too many.
        """
        if caller.known_by is KnownBy.NOTHING:
            return
        now = self._now()
        full_at = max(self._full_at.get(caller, now), now) + self._interval
        too_much = full_at - now - _BURST_NANOSECONDS
        if too_much > 0:
            retry_after = timedelta(microseconds=-(-too_much // 1000))
            raise Overloaded("this caller calls too often; retry later", retry_after)
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        if len(self._full_at) > MAX_CALLERS:
            self._full_at.popitem(last=False)
