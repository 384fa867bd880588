"""How long to wait after a failure."""

from datetime import timedelta
from typing import Final

FIRST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(minutes=5)
SMALLEST_SHARE: Final = 0.1


def full_jitter(failures: int, fraction: float) -> timedelta:
    """The wait after `failures` failures in a row: a random share of a doubling bound.

    `fraction` is random in [0, 1). (AWS Architecture Blog, "Exponential Backoff and Jitter".)
    """
    doublings = min(max(failures, 1) - 1, 16)
    bound = min(FIRST * (1 << doublings), LONGEST)
    return bound * max(fraction, SMALLEST_SHARE)
