"""Tokens that were verified lately are believed unseen: not too long, not too many, not against the keys."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from broker.adapters.identity.bearer_tokens import MAX_BELIEF, MAX_REMEMBERED, BearerTokens
from broker.adapters.identity.key_set import KeySet, KeyTiming
from broker.adapters.identity.token_verification import TokenTerms
from broker.domain.errors import CallerUnauthenticated
from broker.domain.secret import Secret
from tests.fakes.clock import NOON, FakeClock
from tests.fakes.steps import settled
from tests.tokens_of_callers import AUDIENCE, ISSUER, SUBJECT, KeysAtHand, Signer, key_set_of

SIGNER = Signer.new("ES256")
NOON_SECONDS = int(NOON.timestamp())
MOMENT = timedelta(microseconds=1)
# Each verification after this reads the keys, so that a test sees whether there was one.
FRESH_FOR = timedelta(minutes=1)


@dataclass
class Scene:
    """A verifier, its clock, and its keys."""

    clock: FakeClock
    source: KeysAtHand
    tokens: BearerTokens

    @classmethod
    def new(cls, *, max_remembered: int = MAX_REMEMBERED) -> "Scene":
        """With one key, SIGNER's."""
        clock, source = FakeClock(), KeysAtHand(key_set_of(SIGNER.jwk()))
        keys = KeySet(source, clock, KeyTiming(fresh_for=FRESH_FOR))
        terms = TokenTerms(ISSUER, AUDIENCE)
        return cls(clock, source, BearerTokens(terms, keys, clock, max_remembered=max_remembered))

    async def verifies(self, token: Secret) -> bool:
        """Whether the token, which is good, was verified anew. True at most once a FRESH_FOR."""
        reads = self.source.reads
        await self.tokens.subject_of(token)
        await settled()
        return self.source.reads > reads


@pytest.fixture
def scene() -> Scene:
    """A verifier that has seen nothing yet."""
    return Scene.new()


async def refusal(tokens: BearerTokens, token: Secret) -> str:
    """Why the token is refused."""
    with pytest.raises(CallerUnauthenticated) as refused:
        await tokens.subject_of(token)
    return refused.value.why


async def test_token_is_verified_once_and_again_when_belief_ends(scene: Scene) -> None:
    """An ES256 check costs 0.2 ms, and a key that was taken back must matter in the end."""
    token = SIGNER.token()
    assert await scene.verifies(token)
    scene.clock.advance(MAX_BELIEF - MOMENT)
    assert not await scene.verifies(token)
    scene.clock.advance(MOMENT)
    assert await scene.verifies(token)


async def test_remembered_token_ends_when_it_expires(scene: Scene) -> None:
    """Remembering must not lengthen a token's life, not even by a moment."""
    token = SIGNER.token(exp=NOON_SECONDS + 60)
    await scene.tokens.subject_of(token)
    scene.clock.advance(timedelta(seconds=60) - MOMENT)
    assert await scene.tokens.subject_of(token) == SUBJECT
    scene.clock.advance(MOMENT)
    assert await refusal(scene.tokens, token) == "token_expired"


async def test_key_that_was_taken_back_ends_its_tokens_when_that_is_known(scene: Scene) -> None:
    """At once, and not only when belief in each of them ends."""
    token, successor = SIGNER.token(), Signer.new(kid="key-2")
    await scene.tokens.subject_of(token)
    scene.source.document = key_set_of(successor.jwk())
    scene.clock.advance(FRESH_FOR)
    assert await scene.tokens.subject_of(token) == SUBJECT
    assert await scene.tokens.subject_of(successor.token(sub="other")) == "other"
    assert await refusal(scene.tokens, token) == "unknown_key"


async def test_memory_of_tokens_is_bounded() -> None:
    """The least lately used leave first."""
    scene = Scene.new(max_remembered=2)
    first, second, third = (SIGNER.token(sub=name) for name in ("a", "b", "c"))
    for token in (first, second, first, third):
        await scene.tokens.subject_of(token)
    scene.clock.advance(FRESH_FOR)
    assert [await scene.verifies(token) for token in (first, third, second)] == [False, False, True]


async def test_refused_token_is_not_remembered(scene: Scene) -> None:
    """One that comes too early is good a moment later."""
    token = SIGNER.token(nbf=NOON_SECONDS + 60)
    assert await refusal(scene.tokens, token) == "token_not_yet_valid"
    scene.clock.advance(timedelta(seconds=60))
    assert await scene.tokens.subject_of(token) == SUBJECT
