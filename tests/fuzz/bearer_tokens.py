"""Callers' bearer tokens. The input is a token as it is; and a header's and a payload's line, which are then signed."""

import asyncio
from functools import cache
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from jwt.utils import base64url_encode

from broker.adapters.identity.bearer_tokens import BearerTokens
from broker.adapters.identity.refusals import Refusal
from broker.domain.errors import CallerUnauthenticated
from broker.domain.secret import Secret
from tests.fuzz.refusals import assert_holds_no_input
from tests.tokens_of_callers import Signer, bearer_tokens

# What a certificate or the key source is refused for has other inputs.
ENDS: Final = frozenset(
    {
        "subject",
        Refusal.TOKEN_TOO_LARGE,
        Refusal.MALFORMED_TOKEN,
        Refusal.ALGORITHM_NOT_ALLOWED,
        Refusal.UNKNOWN_KEY,
        Refusal.BAD_SIGNATURE,
        Refusal.MISSING_CLAIM,
        Refusal.WRONG_ISSUER,
        Refusal.WRONG_AUDIENCE,
        Refusal.TOKEN_EXPIRED,
        Refusal.TOKEN_NOT_YET_VALID,
        Refusal.NAME_MALFORMED,
    }
)

# Always the same, and nobody's.
SIGNER: Final = Signer("key-1", "ES256", derive_private_key(4242, SECP256R1()))


def try_one(data: bytes) -> str:
    """Show it to a broker twice: as anybody's, and as the issuer's own."""
    raw = _end(data.decode("latin-1"))
    assert raw != "subject", "a signature was made up"
    header, newline, payload = data.partition(b"\n")
    return _end(_signed(header, payload)) if newline else raw


def _signed(header: bytes, payload: bytes) -> str:
    """By hand: PyJWT would not write most of what is tried here."""
    message = b".".join((base64url_encode(header), base64url_encode(payload)))
    signature = jwt.get_algorithm_by_name(SIGNER.algorithm).sign(message, SIGNER.key)
    return b".".join((message, base64url_encode(signature))).decode()


def _end(token: str) -> str:
    try:
        subject = _subject_of(Secret(token))
    except CallerUnauthenticated as refused:
        assert_holds_no_input(refused)
        return refused.why
    assert subject.isascii()
    assert subject.isprintable()
    return "subject"


def _subject_of(token: Secret) -> str:
    """Without an event loop: the keys are at hand, and no token may make the broker wait for others."""
    asking = _tokens().subject_of(token)
    try:
        asking.send(None)
    except StopIteration as answer:
        return str(answer.value)
    raise AssertionError("a token made the broker wait")


@cache
def _tokens() -> BearerTokens:
    tokens = bearer_tokens(SIGNER)
    asyncio.run(tokens.subject_of(SIGNER.token()))
    return tokens
