"""Back-off: doubling, bounded, spread, and never nothing."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.backoff import FIRST, LONGEST, SMALLEST_SHARE, full_jitter

FRACTIONS = st.floats(min_value=0, max_value=1, exclude_max=True)
ROUNDING = timedelta(microseconds=1)


@given(st.integers(min_value=-5, max_value=10**9), FRACTIONS)
def test_wait_is_bounded_both_ways(failures: int, fraction: float) -> None:
    """Never so short that it is a hammer, never so long that an install seems lost."""
    wait = full_jitter(failures, fraction)
    assert FIRST * SMALLEST_SHARE - ROUNDING <= wait <= LONGEST


@given(FRACTIONS)
def test_wait_grows_with_failures_until_the_bound(fraction: float) -> None:
    """Each failure doubles it, for the same luck."""
    waits = [full_jitter(failures, fraction) for failures in range(1, 20)]
    assert waits == sorted(waits)
    assert abs(waits[1] - 2 * waits[0]) <= 2 * ROUNDING
    assert waits[-1] == full_jitter(10**6, fraction)


def test_waits_of_many_are_spread() -> None:
    """F10: no herd when Envoy is back: the whole bound is used."""
    waits = [full_jitter(9, n / 1000) for n in range(1000)]
    assert min(waits) < LONGEST / 5
    assert max(waits) > LONGEST * 4 / 5
