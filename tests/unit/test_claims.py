"""Claims: the table of who may do what to an install."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from broker.domain.claims import ClaimTerms, Purpose, Verdict, decide, presentable
from broker.domain.installs import Failure, Install, Validity
from broker.domain.states import InstallState
from tests.fakes.clock import NOON
from tests.fakes.samples import COMPANY, KEY, due, exchange, forced

SECOND = timedelta(seconds=1)
SOON = NOON + SECOND
JUST_NOW = NOON - SECOND
PROVISIONAL, ACTIVE = InstallState.PROVISIONAL, InstallState.ACTIVE
REFUSED, GONE = InstallState.REAUTHORIZATION_REQUIRED, InstallState.UNINSTALLED

INSTALL = Install(
    key=KEY,
    company_id=COMPANY,
    state=ACTIVE,
    generation=5,
    validity=None,
    in_doubt=False,
    attempt=9,
    claim_ends_at=None,
    exchange_owed=False,
    rejected=False,
    last_attempt=None,
    failure=None,
    created_at=NOON,
    updated_at=NOON,
)


def failing(retry_at: datetime) -> Failure:
    """A failure that lets the next attempt begin at `retry_at`."""
    return Failure("http_503", 1, JUST_NOW, retry_at)


def verdict(
    terms: ClaimTerms,
    *,
    state: InstallState = ACTIVE,
    held_until: datetime | None = None,
    retry_at: datetime | None = None,
    digest: bytes | None = b"last",
) -> Verdict:
    """The verdict at NOON on generation 5, whose last webhook was b"last"."""
    install = replace(INSTALL, state=state, failure=failing(retry_at) if retry_at else None)
    return decide(install, terms, webhook_digest=digest, claim_expires_at=held_until, now=NOON)


DUE, FORCED = due(5), forced(5)
NEW, SAME = exchange(b"new"), exchange(b"last")
T, A, W = Verdict.TAKE, Verdict.ADOPT, Verdict.WAIT
B, R, G = Verdict.BACK_OFF, Verdict.REAUTHORIZE, Verdict.GONE


@pytest.mark.parametrize(
    ("state", "expected"),
    #               DUE FORCED NEW SAME
    [
        (PROVISIONAL, [T, T, T, T]),
        (ACTIVE, [T, T, T, A]),
        (REFUSED, [R, T, T, T]),
        (GONE, [G, T, T, T]),
    ],
)
def test_free_install(state: InstallState, expected: list[Verdict]) -> None:
    """Nobody holds it, nothing failed: the state and the purpose decide."""
    assert [verdict(terms, state=state) for terms in (DUE, FORCED, NEW, SAME)] == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (PROVISIONAL, [W, W, W, W]),
        (ACTIVE, [W, W, W, A]),
        (REFUSED, [R, W, W, W]),
        (GONE, [G, W, W, W]),
    ],
)
def test_install_that_another_holds(state: InstallState, expected: list[Verdict]) -> None:
    """Nobody takes it; who has nothing to wait for is told so at once."""
    verdicts = [verdict(terms, state=state, held_until=SOON) for terms in (DUE, FORCED, NEW, SAME)]
    assert verdicts == expected


@pytest.mark.parametrize("held_until", [NOON, JUST_NOW])
def test_claim_that_has_ended_is_free(held_until: datetime) -> None:
    """A claim's end belongs to its successor."""
    assert verdict(DUE, held_until=held_until) is T


@pytest.mark.parametrize(
    ("retry_at", "expected"), [(SOON, [B, T, T]), (NOON, [T, T, T]), (JUST_NOW, [T, T, T])]
)
def test_failed_install(retry_at: datetime, expected: list[Verdict]) -> None:
    """Back-off holds for those who merely hold a due token."""
    assert [verdict(terms, retry_at=retry_at) for terms in (DUE, FORCED, NEW)] == expected


def test_waiting_goes_before_backing_off() -> None:
    """An attempt under way may end the failure any moment."""
    assert verdict(DUE, held_until=SOON, retry_at=SOON) is W


@pytest.mark.parametrize("terms", [due(4), forced(4), due(0)])
def test_generation_that_moved_on_is_adopted(terms: ClaimTerms) -> None:
    """Another was faster: whether a claim stands or a failure, there is a newer token already."""
    assert verdict(terms) is A
    assert verdict(terms, held_until=SOON) is A
    assert verdict(terms, retry_at=SOON) is A


@pytest.mark.parametrize("terms", [due(6), forced(6)])
def test_f30_generation_that_moved_back_is_taken(terms: ClaimTerms) -> None:
    """After a failover that lost a generation, what stands there is older than what the asker knows."""
    assert verdict(terms) is T


def test_first_webhook_is_taken() -> None:
    """Nothing has been exchanged yet, so no digest stands there."""
    assert verdict(NEW, state=PROVISIONAL, digest=None) is T
    assert verdict(ClaimTerms("a", SECOND, Purpose.EXCHANGE, None, b"x"), digest=None) is T


VALIDITY = Validity(NOON - timedelta(hours=1), NOON, NOON, None)


@pytest.mark.parametrize(
    ("install", "expected"),
    [
        (replace(INSTALL, validity=None), False),
        (replace(INSTALL, validity=VALIDITY), True),
        (replace(INSTALL, validity=VALIDITY, in_doubt=True), False),
        (replace(INSTALL, validity=replace(VALIDITY, refresh_token_expires_at=SOON)), True),
        (replace(INSTALL, validity=replace(VALIDITY, refresh_token_expires_at=NOON)), False),
    ],
    ids=["no token set", "no end given", "in doubt", "alive", "F11 expired"],
)
def test_stored_refresh_token_is_presentable(install: Install, *, expected: bool) -> None:
    """P1: in doubt means never again; F11: an expired one is not worth a request."""
    assert presentable(install, DUE, NOON) is expected
    assert presentable(install, FORCED, NOON) is expected
    assert not presentable(install, NEW, NOON)


def test_f30_refresh_token_that_a_failover_brought_back_is_not_presentable() -> None:
    """It bought the generation that the asker has seen and the database has forgotten."""
    install = replace(INSTALL, validity=VALIDITY)
    assert not presentable(install, due(6), NOON)
    assert presentable(install, due(5), NOON)
