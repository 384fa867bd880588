"""InstallStore: the fake and the adapter give the same answers to the same long stories."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.claims import WEBHOOK_PURPOSES, Claim, ClaimHeld, ClaimTerms, Ending, Purpose, Resolution
from broker.domain.errors import BrokerError
from broker.domain.history import AttemptRecord
from broker.domain.installs import Holding, Install, IssuedTokens
from broker.domain.states import InstallEvent
from tests.contract.store_harness import MemoryHarness, PostgresHarness, StoreHarness
from tests.fakes.clock import NOON
from tests.fakes.samples import CLAIM_LIFE, COMPANY, KEY, issued, route_webhook

STORY_LENGTH = 80
DIGESTS = (b"one", b"two")
TRACEPARENTS = ("", "00-one-a-01", "00-two-b-01")
ENDING_EVENTS = (InstallEvent.MINT_REFUSED, InstallEvent.QUARANTINED, InstallEvent.UNINSTALLED)


@pytest.fixture
async def both(database: str) -> AsyncIterator[tuple[StoreHarness, StoreHarness]]:
    """The fake and the adapter."""
    postgres = PostgresHarness(database)
    await postgres.open()
    yield MemoryHarness(), postgres
    await postgres.close()


class Teller:
    """Tells one store a story and notes its answers, without times, since the clocks differ."""

    def __init__(self, harness: StoreHarness) -> None:
        self._harness = harness
        self._store = harness.store()
        self._claims: list[Claim] = []

    async def tell(self, dice: random.Random, pair: IssuedTokens) -> object:
        """One event, chosen by `dice`; the store's answer."""
        verb = dice.choice(
            ("claim",) * 4
            + ("keep",) * 3
            + ("resolve",) * 2
            + ("end", "provisional", "bury", "enrol", "reject", "due")
        )
        which = dice.random()
        try:
            answer = noted(await self._do(verb, which, dice, pair))
        except BrokerError as error:
            answer = type(error).__name__
        return verb, answer, noted(list(await self._store.history(KEY)))

    async def _do(self, verb: str, which: float, dice: random.Random, pair: IssuedTokens) -> object:
        install = (await self._harness.found()).install
        claim = self._claims[int(which * len(self._claims))] if self._claims else None
        superseded, event = dice.random() < 0.3, dice.choice((None,) * 12 + ENDING_EVENTS)
        resolution = Resolution(
            Ending.SUPERSEDED if superseded else "fault",
            timedelta(0),
            in_doubt=dice.random() < 0.5,
            event=None if superseded else event,
        )
        purpose = dice.choice(list(Purpose))
        terms = ClaimTerms(
            "a-replica",
            CLAIM_LIFE,
            purpose,
            install.generation - (dice.random() < 0.2),
            dice.choice(DIGESTS) if purpose in WEBHOOK_PURPOSES else None,
            dice.choice(TRACEPARENTS),
        )
        match verb:
            case "claim":
                answer = await self._store.claim(KEY, terms)
                self._claims += [answer] if isinstance(answer, Claim) else []
                return answer
            case "keep" if claim is not None:
                return await self._store.keep(claim, replace(pair, requested_at=self._harness.clock.now()))
            case "resolve" if claim is not None:
                return await self._store.resolve(claim, resolution)
            case "enrol":
                await self._store.enrol(KEY, COMPANY)
            case "reject":
                return await self._store.reject(KEY, install.generation, timedelta(0))
            case "due":
                return [each.generation for each in await self._store.due(5)]
            case "end":
                await self._harness.end_claim()
            case "provisional":
                return await self._store.keep_provisional(route_webhook(), self._harness.clock.now())
            case "bury" if which < 0.5:
                return await self._store.bury(KEY)
        return None


def noted(answer: object) -> object:
    """What two stores must agree on."""
    match answer:
        case Claim():
            token = answer.refresh_token.reveal() if answer.refresh_token else None
            numbers = (answer.attempt, answer.generation, answer.presentations, answer.failures)
            return *numbers, token, answer.was_in_doubt
        case ClaimHeld():
            return answer.traceparent
        case AttemptRecord():
            return replace(answer, began_at=None, ended_at=NOON)
        case Holding():
            token = answer.access_token.reveal() if answer.access_token else None
            return noted(answer.install), token, answer.token_type
        case Install():
            failures = answer.failure.count if answer.failure else 0
            ending = answer.last_attempt.ending if answer.last_attempt else None
            known = (
                answer.state,
                answer.generation,
                answer.attempt,
                answer.in_doubt,
                answer.rejected,
                answer.exchange_owed,
                answer.fetched_in,
            )
            return *known, failures, ending, answer.claim_ends_at is not None
        case tuple() | list():
            return [noted(part) for part in answer]
        case bool() | int():
            return answer
    return type(answer).__name__


def dice_of(seed: int, chapter: int) -> random.Random:
    """The same dice for both stores, and in every run."""
    return random.Random(f"{seed}/{chapter}")  # noqa: S311  # a story is no secret


@pytest.mark.parametrize("seed", range(8))
async def test_fake_and_adapter_tell_the_same_story(
    both: tuple[StoreHarness, StoreHarness], seed: int
) -> None:
    """What the unit tests prove over the fake then holds over Postgres."""
    tellers = [Teller(harness) for harness in both]
    for harness in both:
        await harness.store().enrol(KEY, COMPANY)
    for chapter in range(STORY_LENGTH):
        pair = issued(both[0].clock.now(), refresh_token=chapter % 4 != 0, minted=chapter % 3 == 0)
        fake, adapter = [await teller.tell(dice_of(seed, chapter), pair) for teller in tellers]
        assert fake == adapter, f"chapter {chapter}"
