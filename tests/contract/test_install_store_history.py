"""InstallStore: the history of an install's attempts, the trace that a pair was fetched in, and presentations."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from broker.domain.claims import Claim, ClaimHeld, ClaimTerms, Ending, Resolution
from broker.domain.errors import StoreUnavailable
from broker.domain.history import KEPT_ATTEMPTS, UNKNOWN, AttemptRecord
from broker.domain.installs import InstallFilter, IssuedTokens
from broker.domain.states import InstallEvent
from tests.contract.store_harness import StoreHarness
from tests.fakes.samples import COMPANY, KEY, OTHER_KEY, due, exchange, forced, issued

AT_ONCE: Final = timedelta(0)
# What the statements of one test may take.
TEST_TAKES: Final = timedelta(seconds=30)
NOTHING_SPENT: Final = Resolution("connect_failed", AT_ONCE, in_doubt=False)
TIMEOUT: Final = Resolution("timeout", AT_ONCE, in_doubt=True)
SUPERSEDED: Final = Resolution(Ending.SUPERSEDED, AT_ONCE, in_doubt=False)
UNINSTALLED: Final = Resolution("status_404", AT_ONCE, in_doubt=True, event=InstallEvent.UNINSTALLED)
TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT: Final = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def traced(terms: ClaimTerms, traceparent: str = TRACEPARENT) -> ClaimTerms:
    """The terms of an attempt that is traced."""
    return replace(terms, traceparent=traceparent)


async def history_of(harness: StoreHarness) -> Sequence[AttemptRecord]:
    """What an operator sees."""
    return await harness.store().history(KEY)


async def endings(harness: StoreHarness) -> list[tuple[int, str]]:
    """The numbers and endings of the attempts, the newest first."""
    return [(each.attempt, each.ending) for each in await history_of(harness)]


def pair(harness: StoreHarness, *, minted: bool = False) -> IssuedTokens:
    """What Envoy has just issued."""
    return issued(harness.clock.now(), minted=minted)


async def test_history_of_an_install_that_nobody_has_tried_for_is_empty(harness: StoreHarness) -> None:
    """Nor is there one of an unknown install: not found is told by `find`."""
    await harness.store().enrol(KEY, COMPANY)
    assert list(await harness.store().history(KEY)) == []
    assert list(await harness.store().history(OTHER_KEY)) == []


async def test_attempt_that_brought_a_pair_is_noted(harness: StoreHarness) -> None:
    """Who, when, for what, how it ended, and where in the traces to look."""
    await harness.installed()
    before = harness.clock.now()
    claim = await harness.take(traced(due(1, owner="the-third-replica")))
    await harness.store().keep(claim, pair(harness))
    noted, first = await history_of(harness)
    assert noted == AttemptRecord(
        attempt=2,
        purpose="due",
        owner="the-third-replica",
        began_at=noted.began_at,
        ended_at=noted.ended_at,
        ending="refreshed",
        generation=2,
        trace_id=TRACE_ID,
    )
    assert noted.began_at is not None
    assert before - TEST_TAKES < noted.began_at <= noted.ended_at < before + TEST_TAKES
    assert (first.attempt, first.purpose, first.ending, first.trace_id) == (1, "exchange", "refreshed", "")


@pytest.mark.parametrize(
    "resolution", [NOTHING_SPENT, TIMEOUT, SUPERSEDED, UNINSTALLED], ids=lambda each: each.kind
)
async def test_attempt_without_a_pair_is_noted(harness: StoreHarness, resolution: Resolution) -> None:
    """Every way to end one, the uninstall that Envoy confirmed included, of which only a tombstone is left."""
    await harness.installed()
    holding = await harness.store().resolve(await harness.take(traced(forced(1))), resolution)
    noted = (await history_of(harness))[0]
    assert (noted.attempt, noted.ending, noted.purpose) == (2, resolution.kind, "forced")
    assert (noted.generation, noted.trace_id) == (None, TRACE_ID)
    assert holding.install.last_attempt is not None
    assert holding.install.last_attempt.ending == resolution.kind


async def test_f01_attempt_whose_holder_was_killed_is_noted_when_the_next_begins(
    harness: StoreHarness,
) -> None:
    """Or the history would be silent about the very attempt that explains a mint."""
    await harness.installed()
    killed = await harness.take(traced(due(1, owner="killed")))
    await harness.end_claim()
    assert await endings(harness) == [(1, Ending.REFRESHED)]
    await harness.take(due(1, owner="next"))
    noted = (await history_of(harness))[0]
    assert (noted.attempt, noted.ending, noted.owner) == (killed.attempt, UNKNOWN, "killed")
    assert (noted.purpose, noted.trace_id) == ("due", TRACE_ID)
    assert noted.began_at is not None
    assert noted.began_at <= noted.ended_at


async def test_attempt_that_ended_in_doubt_is_noted_once(harness: StoreHarness) -> None:
    """Its holder said how it ended, and nobody else need do so."""
    await harness.installed()
    await harness.store().resolve(await harness.take(due(1)), TIMEOUT)
    await harness.store().keep(await harness.take(due(1)), pair(harness, minted=True))
    assert await endings(harness) == [(3, Ending.MINTED_IN_DOUBT), (2, "timeout"), (1, Ending.REFRESHED)]


async def test_f21_pair_that_came_late_is_noted_beside_the_silence_before(harness: StoreHarness) -> None:
    """Both are true: nobody had heard of the attempt, and then its pair came."""
    await harness.installed()
    late = await harness.take(due(1))
    await harness.end_claim()
    await harness.take(due(1))
    await harness.store().keep(late, pair(harness))
    assert await endings(harness) == [(2, Ending.REFRESHED), (2, UNKNOWN), (1, Ending.REFRESHED)]


async def test_f21_pair_that_came_too_late_is_noted_as_superseded_and_once(harness: StoreHarness) -> None:
    """It was dropped; to keep it again, since its fate was unknown, adds nothing."""
    await harness.installed()
    late = await harness.take(due(1))
    await harness.end_claim()
    await harness.store().keep(await harness.take(due(1)), pair(harness, minted=True))
    for _ in range(2):
        await harness.store().keep(late, pair(harness))
    assert (await endings(harness))[:3] == [
        (2, Ending.SUPERSEDED),
        (3, Ending.MINTED_IN_DOUBT),
        (2, UNKNOWN),
    ]


async def test_f31_keeping_twice_is_noted_once(harness: StoreHarness) -> None:
    """A COMMIT whose fate nobody knew is no second attempt."""
    await harness.installed()
    claim, kept = await harness.take(due(1)), pair(harness)
    for _ in range(2):
        await harness.store().keep(claim, kept)
    assert await endings(harness) == [(2, Ending.REFRESHED), (1, Ending.REFRESHED)]


async def test_deletion_notes_the_attempt_that_it_cut_off_and_keeps_the_history(
    harness: StoreHarness,
) -> None:
    """Whoever asks later why an install is gone finds what was tried before."""
    await harness.installed()
    await harness.take(due(1))
    await harness.store().bury(KEY)
    assert await endings(harness) == [(2, UNKNOWN), (1, Ending.REFRESHED)]
    await harness.store().bury(KEY)
    assert len(await history_of(harness)) == 2


async def test_history_holds_the_last_attempts_only(harness: StoreHarness) -> None:
    """A row must not grow with every refresh of years."""
    await harness.installed()
    for _ in range(KEPT_ATTEMPTS + 2):
        await harness.store().resolve(await harness.take(due(1)), NOTHING_SPENT)
    numbers = [each.attempt for each in await history_of(harness)]
    assert numbers == list(range(KEPT_ATTEMPTS + 3, 3, -1))


async def test_f34_history_of_a_database_that_is_away_is_store_unavailable(harness: StoreHarness) -> None:
    """As for every other verb."""
    with pytest.raises(StoreUnavailable):
        await (await harness.away()).history(KEY)


async def test_pair_tells_in_which_trace_it_was_fetched(harness: StoreHarness) -> None:
    """A waiter on another replica links to the one refresh that served it."""
    await harness.installed()
    assert (await harness.found()).install.fetched_in == ""
    claim = await harness.take(traced(due(1)))
    assert claim.traceparent == TRACEPARENT
    assert (await harness.found()).install.fetched_in == ""
    kept = await harness.store().keep(claim, pair(harness))
    assert kept.install.fetched_in == TRACEPARENT
    await harness.store().resolve(await harness.take(traced(due(2), "00-another")), NOTHING_SPENT)
    install = (await harness.found()).install
    assert install.fetched_in == TRACEPARENT
    (listed,) = await harness.store().page(InstallFilter(), after=None, limit=1)
    assert listed.fetched_in == TRACEPARENT
    assert (await harness.store().bury(KEY)).fetched_in == ""


async def test_f21_late_pair_tells_of_its_own_trace(harness: StoreHarness) -> None:
    """And not of the attempt under way, whose claim still stands."""
    await harness.installed()
    late = await harness.take(traced(due(1)))
    await harness.end_claim()
    await harness.take(traced(due(1), "00-another"))
    assert (await harness.store().keep(late, pair(harness))).install.fetched_in == TRACEPARENT
    held = await harness.store().claim(KEY, due(2))
    assert isinstance(held, ClaimHeld)
    assert held.traceparent == "00-another"


async def test_held_claim_tells_in_which_trace_its_holder_works(harness: StoreHarness) -> None:
    """Who waits for it can say so in its own trace."""
    await harness.installed()
    await harness.take(traced(due(1)))
    held = await harness.store().claim(KEY, due(1))
    assert isinstance(held, ClaimHeld)
    assert held.traceparent == TRACEPARENT


async def presented(harness: StoreHarness, generation: int) -> tuple[Claim, int]:
    """A claim on `generation`, and how often its refresh token will have been presented."""
    claim = await harness.take(due(generation))
    assert (claim.presentations > 0) == (claim.refresh_token is not None)
    return claim, claim.presentations


async def test_presentations_begin_anew_with_each_generation(harness: StoreHarness) -> None:
    """P1: once each."""
    await harness.installed()
    for generation in (1, 2, 3):
        claim, presentations = await presented(harness, generation)
        assert presentations == 1
        await harness.store().keep(claim, pair(harness))


async def test_presentation_that_spent_nothing_does_not_count(harness: StoreHarness) -> None:
    """It never reached Envoy, or Envoy did not take it: the next attempt's is the first."""
    await harness.installed()
    for _ in range(3):
        claim, presentations = await presented(harness, 1)
        assert presentations == 1
        await harness.store().resolve(claim, NOTHING_SPENT)


async def test_mint_presents_nothing(harness: StoreHarness) -> None:
    """After an attempt that nobody knows the outcome of, whose presentation stays counted."""
    await harness.installed()
    claim, _ = await presented(harness, 1)
    await harness.store().resolve(claim, TIMEOUT)
    minting, presentations = await presented(harness, 1)
    assert presentations == 0
    await harness.store().resolve(minting, replace(NOTHING_SPENT, in_doubt=True))
    minting, presentations = await presented(harness, 1)
    assert presentations == 0
    await harness.store().keep(minting, pair(harness, minted=True))
    assert (await presented(harness, 2))[1] == 1


async def test_second_presentation_of_a_generation_is_counted_as_such(harness: StoreHarness) -> None:
    """It must never happen; if a fault of ours makes it happen, this is how it is seen."""
    await harness.installed()
    claim, _ = await presented(harness, 1)
    # What a broken protocol would do: take back the doubt, though the token was presented and refused.
    await harness.store().resolve(claim, SUPERSEDED)
    assert (await presented(harness, 1))[1] == 2


async def test_presentation_of_unknown_outcome_stays_counted(harness: StoreHarness) -> None:
    """If the doubt were ever lost without a new generation, this is how it is seen."""
    await harness.installed()
    claim, _ = await presented(harness, 1)
    await harness.store().resolve(claim, TIMEOUT)
    minting, _ = await presented(harness, 1)
    await harness.store().resolve(minting, NOTHING_SPENT)
    assert (await presented(harness, 1))[1] == 2


async def test_exchange_leaves_the_count_alone(harness: StoreHarness) -> None:
    """A webhook mints, whatever is stored; what it takes back is no presentation."""
    await harness.installed()
    webhook = await harness.take(exchange(b"second"))
    assert webhook.presentations == 0
    await harness.store().resolve(webhook, NOTHING_SPENT)
    assert (await presented(harness, 1))[1] == 1
