"""Refresher: how each answer of Envoy's ends an attempt, and what the next attempt then does."""

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.backoff import LONGEST
from broker.domain.claims import Ending, Purpose
from broker.domain.errors import (
    BrokerError,
    ClientCredentialsRefused,
    ClientRefused,
    GrantRefused,
    Limited,
    NotSent,
    OutcomeUnknown,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from broker.domain.installs import IssuedTokens
from broker.domain.states import InstallState
from tests.fakes.replica import Replica, World, grantee
from tests.fakes.samples import COMPANY, KEY, REFRESH_LIFE, TIMING, route_webhook
from tests.fakes.token_endpoint import Answer, AnswerLost

SECOND = timedelta(seconds=1)
SEVEN_SECONDS = timedelta(seconds=7)
NOTHING_SPENT: list[Answer] = [
    NotSent("connect_failed"),
    Limited(SEVEN_SECONDS),
    Limited(None),
    ClientRefused("invalid_client"),
]
MAYBE_SPENT: list[Answer] = [OutcomeUnknown("http_500"), OutcomeUnknown("timeout"), AnswerLost()]
REFUSED = GrantRefused("invalid_grant")


def error_of(answer: Answer) -> type[BrokerError]:
    """What the callers of a failed attempt are told."""
    return ClientCredentialsRefused if isinstance(answer, ClientRefused) else ProviderUnavailable


async def failed(replica: Replica, seen: int, *answers: Answer) -> BrokerError:
    """The error of an attempt that Envoy answers so; its back-off is over."""
    replica.endpoint.answer(*answers)
    with pytest.raises(BrokerError) as caught:
        await replica.refresher.refresh(KEY, seen)
    return caught.value


async def recovered(world: World, replica: Replica) -> list[str]:
    """The grants that one clean attempt needs, which must end in a live token (P2)."""
    world.clock.advance(LONGEST)
    before = len(world.grants)
    holding = await replica.refresher.refresh(KEY, world.table.rows[KEY].install.generation)
    assert world.holds_live_token(holding)
    assert not holding.install.in_doubt
    assert holding.install.failure is None
    return world.grants[before:]


async def test_refresh_brings_the_next_generation(world: World, replica: Replica) -> None:
    """The main road: present, store, tell."""
    await world.install()
    holding = await replica.refresher.refresh(KEY, 1)
    assert world.grants == ["refresh_token"]
    assert holding.install.generation == 2
    assert world.holds_live_token(holding)
    entry = replica.cache.get(KEY)
    assert entry is not None
    assert entry.holding == holding
    assert not world.table.rows[KEY].install.in_doubt


@pytest.mark.parametrize("answer", NOTHING_SPENT, ids=repr)
async def test_nothing_spent_takes_the_intent_back(world: World, replica: Replica, answer: Answer) -> None:
    """F09, F14: the same refresh token is presented next time, and the install is as before."""
    await world.install()
    error = await failed(replica, 1, answer)
    assert type(error) is error_of(answer)
    install = world.table.rows[KEY].install
    assert (install.state, install.in_doubt, install.generation) == (InstallState.ACTIVE, False, 1)
    assert await recovered(world, replica) == ["refresh_token"]


@pytest.mark.parametrize("answer", MAYBE_SPENT, ids=repr)
async def test_f02_unknown_outcome_is_never_presented_again(
    world: World, replica: Replica, answer: Answer
) -> None:
    """P1: whether or not Envoy acted, the next attempt mints."""
    await world.install()
    error = await failed(replica, 1, answer)
    assert type(error) is ProviderUnavailable
    install = world.table.rows[KEY].install
    assert (install.state, install.in_doubt, install.generation) == (InstallState.ACTIVE, True, 1)
    assert await recovered(world, replica) == ["plugin_install"]
    assert len(world.presented) == 1


async def test_f07_refused_refresh_token_is_followed_by_one_mint(world: World, replica: Replica) -> None:
    """Within the same attempt, so that its callers get a token."""
    await world.install()
    replica.endpoint.answer(REFUSED)
    holding = await replica.refresher.refresh(KEY, 1)
    assert world.grants == ["refresh_token", "plugin_install"]
    assert (holding.install.generation, holding.install.attempt) == (2, 2)
    assert world.holds_live_token(holding)


@pytest.mark.parametrize("answer", NOTHING_SPENT + MAYBE_SPENT, ids=repr)
async def test_f07_refused_refresh_token_is_never_presented_again(
    world: World, replica: Replica, answer: Answer
) -> None:
    """Though the mint that followed failed without spending anything."""
    await world.install()
    error = await failed(replica, 1, REFUSED, answer)
    assert type(error) is error_of(answer)
    assert world.table.rows[KEY].install.in_doubt
    assert await recovered(world, replica) == ["plugin_install"]
    assert len(world.presented) == 1


@pytest.mark.parametrize("answer", NOTHING_SPENT + MAYBE_SPENT, ids=repr)
async def test_f01_doubt_outlives_attempts_that_bring_nothing(
    world: World, replica: Replica, answer: Answer
) -> None:
    """Only a stored pair ends it."""
    await world.install()
    await world.abandon_attempt()
    await failed(replica, 1, answer)
    assert world.table.rows[KEY].install.in_doubt
    assert await recovered(world, replica) == ["plugin_install"]
    assert world.presented == []


async def test_f07_pair_that_another_stored_meanwhile_is_adopted(world: World, replica: Replica) -> None:
    """The refusal came because another was faster: its pair is the live one, and no mint may end it."""
    await world.install()
    gate = replica.endpoint.hold()
    replica.endpoint.answer(REFUSED)
    replica.refresher.refresh_behind(KEY, 1)
    await gate.arrived.wait()
    newer = world.issuer.mint(grantee(), world.clock.now())
    with world.table.written(KEY) as row:
        validity = world.table.next_validity(KEY, 2, newer, timedelta(0), None)
        world.table.put_tokens(row, 2, newer.access_token, newer.refresh_token, validity)
    gate.opened.set()
    holding = await replica.refresher.refresh(KEY, 1)
    assert holding.access_token == newer.access_token
    assert world.grants == ["refresh_token"]
    assert not holding.install.in_doubt
    assert holding.install.failure is None
    assert holding.install.last_attempt is not None
    assert holding.install.last_attempt.ending == Ending.SUPERSEDED


async def test_f12_refused_mint_requires_reauthorization(world: World, replica: Replica) -> None:
    """Nobody asks again until the company has acted; then the next webhook revives it."""
    await world.install()
    error = await failed(replica, 1, REFUSED, GrantRefused("invalid_install"))
    assert type(error) is ReauthorizationRequired
    assert world.table.rows[KEY].install.state is InstallState.REAUTHORIZATION_REQUIRED
    world.clock.advance(LONGEST)
    assert type(await failed(replica, 1)) is ReauthorizationRequired
    assert len(world.grants) == 2
    holding = await replica.refresher.exchange(route_webhook(b"again"))
    assert holding.install.state is InstallState.ACTIVE
    assert world.holds_live_token(holding)
    assert len(world.presented) == 1


async def test_f11_expired_refresh_token_is_minted_past(world: World, replica: Replica) -> None:
    """After 31 days without a caller."""
    await world.install()
    world.clock.advance(REFRESH_LIFE + timedelta(days=1))
    holding = await replica.refresher.refresh(KEY, 1)
    assert world.grants == ["plugin_install"]
    assert world.holds_live_token(holding)


async def test_f04_answer_without_a_refresh_token_keeps_the_old_one(world: World, replica: Replica) -> None:
    """RFC 6749, section 6."""

    def without(pair: IssuedTokens) -> IssuedTokens:
        return replace(pair, refresh_token=None, refresh_token_expires_in=None)

    await world.install()
    replica.endpoint.answer(without)
    await replica.refresher.refresh(KEY, 1)
    replica.endpoint.answer(REFUSED)
    await replica.refresher.refresh(KEY, 2)
    first, second = world.presented
    assert first == second


@pytest.mark.parametrize("answers", [[AnswerLost()], [REFUSED]], ids=repr)
async def test_f04_mint_without_a_refresh_token_does_not_bring_a_spent_one_back(
    world: World, replica: Replica, answers: list[Answer]
) -> None:
    """P1: the stored one may be spent; to keep it as "the old one" would present it again."""

    def without(pair: IssuedTokens) -> IssuedTokens:
        return replace(pair, refresh_token=None, refresh_token_expires_in=None)

    await world.install()
    if answers != [REFUSED]:
        await failed(replica, 1, *answers)
        answers = []
    world.clock.advance(LONGEST)
    replica.endpoint.answer(*answers, without)
    await replica.refresher.refresh(KEY, 1)
    await replica.refresher.refresh(KEY, 2)
    assert world.grants[-2:] == ["plugin_install", "plugin_install"]
    assert len(world.presented) == 1


async def test_f06_other_company_s_pair_is_quarantined(world: World, replica: Replica) -> None:
    """P3: it is never handed out, and Envoy is not asked again until somebody has looked."""

    def of_another(pair: IssuedTokens) -> IssuedTokens:
        return replace(pair, company_id="another company")

    held = await world.install()
    error = await failed(replica, 1, of_another)
    assert type(error) is ReauthorizationRequired
    found = await replica.store.find_holding(KEY)
    assert found is not None
    assert (found.access_token, found.install.company_id) == (held.access_token, COMPANY)
    assert found.install.state is InstallState.REAUTHORIZATION_REQUIRED
    assert found.install.failure is not None
    assert found.install.failure.kind == "company_mismatch"
    world.clock.advance(LONGEST)
    with pytest.raises(ReauthorizationRequired):
        await replica.get_token("", KEY.install_id)
    assert world.grants == ["refresh_token"]


async def test_f06_operator_ends_the_quarantine(world: World, replica: Replica) -> None:
    """Who has looked says so by a refresh: then whatever company Envoy names is the install's."""

    def of_another(pair: IssuedTokens) -> IssuedTokens:
        return replace(pair, company_id="another company")

    await world.install()
    await failed(replica, 1, of_another)
    replica.endpoint.answer(of_another)
    holding = await replica.refresher.refresh(KEY, 1, Purpose.FORCED)
    assert (holding.install.state, holding.install.company_id) == (InstallState.ACTIVE, "another company")
    assert world.grants == ["refresh_token", "plugin_install"]


async def test_answer_that_does_not_name_the_company_is_taken(world: World, replica: Replica) -> None:
    """Envoy need not repeat it."""
    await world.install()
    replica.endpoint.answer(lambda pair: replace(pair, company_id=""))
    assert (await replica.refresher.refresh(KEY, 1)).install.company_id == COMPANY


async def test_f09_retry_after_is_obeyed(world: World, replica: Replica) -> None:
    """To the second, by every replica that only holds a due token."""
    await world.install()
    error = await failed(replica, 1, Limited(SEVEN_SECONDS))
    assert isinstance(error, ProviderUnavailable)
    assert error.retry_after == SEVEN_SECONDS
    world.clock.advance(SEVEN_SECONDS - SECOND)
    told = await failed(Replica(world), 1)
    assert isinstance(told, ProviderUnavailable)
    assert told.retry_after == SECOND
    assert len(world.grants) == 1
    world.clock.advance(SECOND)
    assert (await Replica(world).refresher.refresh(KEY, 1)).install.generation == 2


async def test_f10_waits_grow_with_failures_and_stay_bounded(world: World, replica: Replica) -> None:
    """Eight hours of 5xx: some hundred calls, and none sooner than it was told."""
    await world.install()
    waits = []
    for _ in range(20):
        error = await failed(replica, 1, OutcomeUnknown("http_503"))
        assert isinstance(error, ProviderUnavailable)
        waits.append(error.retry_after)
        world.clock.advance(error.retry_after)
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST / 2
    assert len(world.grants) == 20


async def test_every_call_ends_a_margin_before_its_claim(world: World, replica: Replica) -> None:
    """Two holders never call at once; the deadline is on the clock that the claim was taken by."""
    await world.install()
    start = world.clock.now()
    gate = replica.endpoint.hold()
    replica.endpoint.answer(REFUSED)
    replica.refresher.refresh_behind(KEY, 1)
    await gate.arrived.wait()
    world.clock.advance(TIMING.call - SECOND)
    gate.opened.set()
    await replica.refresher.drain()
    refresh, mint = world.requests
    assert refresh.deadline == start + TIMING.call
    assert mint.deadline == start + TIMING.claim - TIMING.margin
