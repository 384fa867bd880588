"""Freshness: due before usable before expired, for every lifetime that Envoy may choose."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.freshness import (
    DUE_JITTER_SHARE,
    DUE_SHARE,
    EXPIRY_MARGIN,
    SHORTEST_RENEWED,
    Freshness,
    due_after,
    freshness,
    longest_min_ttl,
    usable_until,
)
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Validity
from tests.fakes.clock import NOON
from tests.fakes.samples import KEY, install_of

LIFETIMES = st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=3650))
KEYS = st.builds(InstallKey, st.text(max_size=20), st.text(max_size=20))
GENERATIONS = st.integers(min_value=1, max_value=2**62)
TICK = timedelta(microseconds=1)
ROUNDING = timedelta(microseconds=2)
DAY = timedelta(days=1)


def validity(lifetime: timedelta, key: InstallKey = KEY, generation: int = 1) -> Validity:
    """A token issued at NOON."""
    return Validity(NOON, NOON + lifetime, NOON + due_after(lifetime, key, generation), None)


@given(LIFETIMES, KEYS, GENERATIONS)
def test_token_is_due_then_unusable_then_expired(
    lifetime: timedelta, key: InstallKey, generation: int
) -> None:
    """P3 and the advance refresh both rest on this order."""
    token = validity(lifetime, key, generation)
    assert token.issued_at < token.refresh_due_at < usable_until(token) < token.expires_at


@given(LIFETIMES, KEYS, GENERATIONS)
def test_due_time_is_spread_below_two_thirds(lifetime: timedelta, key: InstallKey, generation: int) -> None:
    """Installs of one minute must not all be due in one minute, and none later than two thirds."""
    due = due_after(lifetime, key, generation)
    assert lifetime * DUE_SHARE * (1 - DUE_JITTER_SHARE) - ROUNDING <= due <= lifetime * DUE_SHARE + ROUNDING


def test_due_times_of_many_installs_fill_the_spread_evenly() -> None:
    """F16: each tenth of the spread gets about its share of 10,000 installs."""
    due = [due_after(DAY, InstallKey("5024", str(n)), 1) / DAY for n in range(10_000)]
    width = DUE_SHARE * DUE_JITTER_SHARE
    tenths = [int((DUE_SHARE - moment) / width * 10) for moment in due]
    assert {tenth: 800 < tenths.count(tenth) < 1200 for tenth in range(10)} == dict.fromkeys(range(10), True)


def test_due_time_is_the_same_everywhere_and_differs_by_generation() -> None:
    """Replicas must agree without talking; two unlucky installs must not collide for ever."""
    assert due_after(DAY, KEY, 1) == due_after(DAY, InstallKey(*KEY), 1)
    assert due_after(DAY, KEY, 1) != due_after(DAY, KEY, 2)
    assert due_after(DAY, InstallKey("12", "3"), 1) != due_after(DAY, InstallKey("1", "23"), 1)


@pytest.mark.parametrize("lifetime", [DAY, timedelta(hours=12), timedelta(minutes=5)])
def test_freshness_changes_at_its_very_moments(lifetime: timedelta) -> None:
    """The boundaries belong to the later, safer side."""
    token = validity(lifetime)
    due, unusable = token.refresh_due_at, usable_until(token)
    expected = {
        token.issued_at: Freshness.FRESH,
        due - TICK: Freshness.FRESH,
        due: Freshness.STALE,
        unusable - TICK: Freshness.STALE,
        unusable: Freshness.EXPIRED,
        token.expires_at: Freshness.EXPIRED,
    }
    assert {now: freshness(install_of(token), now) for now in expected} == expected


def test_in_doubt_is_due_at_once_and_not_expired() -> None:
    """F02: the token is served while it lives, and the mint begins behind it."""
    token = validity(DAY)
    doubtful = install_of(token, in_doubt=True)
    assert freshness(doubtful, NOON) is Freshness.STALE
    assert freshness(doubtful, usable_until(token)) is Freshness.EXPIRED


def test_rejected_token_and_none_at_all_are_expired() -> None:
    """Nobody may be handed what Envoy has answered 401 to."""
    assert freshness(install_of(validity(DAY), rejected=True), NOON) is Freshness.EXPIRED
    assert freshness(install_of(None), NOON) is Freshness.EXPIRED


def test_refresh_token_that_ends_first_is_renewed_ahead_of_its_end() -> None:
    """Or the install would need a mint though nobody did anything wrong."""
    due = due_after(DAY, KEY, 1, timedelta(hours=6))
    assert due == due_after(timedelta(hours=6), KEY, 1)
    assert due_after(DAY, KEY, 1, timedelta(days=30)) == due_after(DAY, KEY, 1)


def test_refresh_token_that_is_nearly_over_is_left_to_end() -> None:
    """What Envoy does not prolong would else be renewed in ever shorter steps; a mint follows it."""
    assert due_after(DAY, KEY, 1, SHORTEST_RENEWED - TICK) == due_after(DAY, KEY, 1)


@given(LIFETIMES)
def test_margin_takes_little_of_a_short_life(lifetime: timedelta) -> None:
    """A token of a few seconds must be usable for most of them."""
    token = validity(lifetime)
    margin = token.expires_at - usable_until(token)
    assert margin <= EXPIRY_MARGIN
    assert margin <= lifetime / 10 + ROUNDING


@given(LIFETIMES)
def test_longest_min_ttl_is_met_by_a_new_token(lifetime: timedelta) -> None:
    """Else a caller could ask for what no refresh can give, and cause one at each call."""
    token = validity(lifetime)
    assert token.issued_at + longest_min_ttl(token) < usable_until(token)
    assert longest_min_ttl(token) == lifetime * 0.5
