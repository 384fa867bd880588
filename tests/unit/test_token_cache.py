"""TokenCache: bounded, never older over newer, and not believed for too long."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from broker.domain.freshness import usable_until
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding, Install, Validity
from broker.domain.secret import Secret
from broker.domain.states import InstallState
from broker.service.token_cache import LOOK_AHEAD_SHARE, TokenCache
from tests.fakes.clock import NOON
from tests.fakes.samples import ACCESS_LIFE, COMPANY, KEY

STALENESS = timedelta(seconds=30)
VALIDITY = Validity(NOON, NOON + ACCESS_LIFE, NOON + ACCESS_LIFE * 0.6, None)


def holding(
    generation: int = 1,
    attempt: int = 1,
    *,
    key: InstallKey = KEY,
    state: InstallState = InstallState.ACTIVE,
    validity: Validity | None = VALIDITY,
    in_doubt: bool = False,
) -> Holding:
    """What a store would say."""
    install = Install(
        key=key,
        company_id=COMPANY,
        state=state,
        generation=generation,
        validity=validity,
        in_doubt=in_doubt,
        attempt=attempt,
        claim_ends_at=None,
        exchange_owed=False,
        rejected=False,
        last_attempt=None,
        failure=None,
        created_at=NOON,
        updated_at=NOON,
    )
    return Holding(install, Secret(f"token-{generation}-{attempt}"), "Bearer")


def cache_of(size: int = 10) -> TokenCache:
    """An empty cache."""
    return TokenCache(max_entries=size, max_staleness=STALENESS)


def test_what_was_put_is_found_by_key_and_by_plain_pair() -> None:
    """The hot path has the caller's two strings, and no InstallKey."""
    cache, known = cache_of(), holding()
    cache.put(known, NOON)
    for key in (KEY, tuple(KEY)):
        entry = cache.get(key)  # type: ignore[arg-type]  # a plain tuple of two
        assert entry is not None
        assert entry.holding is known


def test_unknown_is_none() -> None:
    """The cache makes nothing up."""
    assert cache_of().get(KEY) is None


def test_least_lately_used_leaves_first() -> None:
    """Memory is bounded, and the busy installs stay."""
    cache, keys = cache_of(3), [InstallKey("5024", str(n)) for n in range(4)]
    for key in keys[:3]:
        cache.put(holding(key=key), NOON)
    cache.get(keys[0])
    cache.put(holding(key=keys[3]), NOON)
    assert len(cache) == 3
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]


def test_size_is_bounded_under_churn() -> None:
    """A sweep over many installs must not grow the process."""
    cache = cache_of(5)
    for n in range(1000):
        cache.put(holding(key=InstallKey("5024", str(n))), NOON)
        assert len(cache) <= 5


@pytest.mark.parametrize("order", list(permutations([(1, 1), (2, 2), (2, 3), (3, 4)])))
def test_newest_stays_in_whatever_order_they_come(order: list[tuple[int, int]]) -> None:
    """A slow read that a store has overtaken must not bring the old token back."""
    cache = cache_of()
    for age in order:
        entry = cache.put(holding(*age), NOON)
        assert entry.holding.install.generation >= age[0]
    newest = cache.get(KEY)
    assert newest is not None
    assert (newest.holding.install.generation, newest.holding.install.attempt) == (3, 4)


def test_tombstone_is_not_overwritten_by_a_slow_read() -> None:
    """The attempt number moves on with a deletion, so the deletion is newer."""
    cache = cache_of()
    cache.put(holding(5, 8, state=InstallState.UNINSTALLED, validity=None), NOON)
    entry = cache.put(holding(5, 7), NOON)
    assert entry.holding.install.state is InstallState.UNINSTALLED


def test_same_age_is_replaced_by_what_was_read_last() -> None:
    """A failure and a refusal change neither generation nor attempt."""
    cache = cache_of()
    cache.put(holding(in_doubt=True), NOON)
    assert not cache.put(holding(in_doubt=False), NOON).holding.install.in_doubt


def test_entry_is_believed_for_max_staleness() -> None:
    """F36: without any hint, another replica's news is seen by then."""
    entry = cache_of().put(holding(), NOON)
    assert entry.check_at == NOON + STALENESS
    assert entry.look_at == entry.fresh_until == NOON + STALENESS * LOOK_AHEAD_SHARE
    assert entry.usable_until == usable_until(VALIDITY)


@pytest.mark.parametrize(
    ("validity", "fresh_until"),
    [
        (replace(VALIDITY, refresh_due_at=NOON + STALENESS / 4), NOON + STALENESS / 4),
        (replace(VALIDITY, refresh_due_at=NOON), NOON),
        (VALIDITY, NOON + STALENESS * LOOK_AHEAD_SHARE),
    ],
    ids=["due before the next look", "due now", "due later"],
)
def test_fresh_until_is_the_earliest_of_what_ends_it(validity: Validity, fresh_until: datetime) -> None:
    """The hot path compares one moment only, so that moment must be right."""
    assert cache_of().put(holding(validity=validity), NOON).fresh_until == fresh_until


@pytest.mark.parametrize(
    "known",
    [
        holding(in_doubt=True),
        holding(validity=None),
        holding(state=InstallState.REAUTHORIZATION_REQUIRED),
        holding(state=InstallState.UNINSTALLED, validity=None),
    ],
    ids=["in doubt", "no token", "refused", "tombstone"],
)
def test_what_must_be_looked_at_is_never_fresh(known: Holding) -> None:
    """The hot path looks at nothing else, so it must not be taken."""
    assert cache_of().put(known, NOON).fresh_until < NOON


def test_refused_install_s_token_is_not_usable() -> None:
    """Not even while the store is away."""
    for state in (InstallState.REAUTHORIZATION_REQUIRED, InstallState.UNINSTALLED):
        assert cache_of().put(holding(state=state), NOON).usable_until < NOON


def test_in_doubt_token_is_usable() -> None:
    """F02: serve it while it lives."""
    assert cache_of().put(holding(in_doubt=True), NOON).usable_until == usable_until(VALIDITY)
