"""The Authenticator port by certificate, by token, and by both; what the log says of refusals."""

from datetime import timedelta

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from broker.adapters.identity.authenticator import CallerAuthenticator
from broker.adapters.identity.refusals import LINES_PER_WINDOW, WINDOW, Refusal
from broker.adapters.identity.token_verification import MAX_SUBJECT_CHARACTERS
from broker.domain.callers import Caller, Credentials, KnownBy
from broker.domain.errors import CallerUnauthenticated
from broker.domain.secret import Secret
from broker.ports import Authenticator
from tests.fakes.clock import FakeClock
from tests.tokens_of_callers import SUBJECT, Signer, bearer_tokens, claims, segment

SPIFFE_ID = "spiffe://envoy.example/ns/visitors/sa/badge-printer"
SIGNER = Signer.new()
TOKEN = SIGNER.token()
BY_CERTIFICATE = Caller(SPIFFE_ID, KnownBy.CERTIFICATE)
BY_TOKEN = Caller(SUBJECT, KnownBy.TOKEN)


CERTIFICATES = frozenset({KnownBy.CERTIFICATE})
TOKENS = frozenset({KnownBy.TOKEN})
BOTH = CERTIFICATES | TOKENS


def demanding(demanded: frozenset[KnownBy], clock: FakeClock | None = None) -> Authenticator:
    """An authenticator that demands these proofs."""
    clock = clock or FakeClock()
    tokens = bearer_tokens(SIGNER, clock=clock) if KnownBy.TOKEN in demanded else None
    return CallerAuthenticator(clock, certificates=KnownBy.CERTIFICATE in demanded, tokens=tokens)


async def refusal(authenticator: Authenticator, *names: str, bearer: Secret | None = None) -> str:
    """Why the credentials are refused. The caller is not told."""
    with pytest.raises(CallerUnauthenticated) as refused:
        await authenticator.authenticate(Credentials(names, bearer))
    assert refused.value.why not in str(refused.value)
    return refused.value.why


@pytest.mark.parametrize(
    ("demanded", "names", "bearer", "caller"),
    [
        (CERTIFICATES, (SPIFFE_ID,), None, BY_CERTIFICATE),
        (CERTIFICATES, (SPIFFE_ID,), Secret("no token"), BY_CERTIFICATE),
        (TOKENS, (), TOKEN, BY_TOKEN),
        (TOKENS, ("*",), TOKEN, BY_TOKEN),
        (BOTH, (SPIFFE_ID,), TOKEN, BY_TOKEN),
    ],
)
async def test_caller_is_known_by_what_is_demanded(
    demanded: frozenset[KnownBy], names: tuple[str, ...], bearer: Secret | None, caller: Caller
) -> None:
    """Of both the token names the caller. What is not demanded is not looked at."""
    assert await demanding(demanded).authenticate(Credentials(names, bearer)) == caller


@pytest.mark.parametrize(
    ("demanded", "names", "bearer", "why"),
    [
        (CERTIFICATES, (), TOKEN, "no_certificate"),
        (CERTIFICATES, ("*.example",), None, "name_malformed"),
        (TOKENS, (SPIFFE_ID,), None, "no_token"),
        (TOKENS, (SPIFFE_ID,), Secret(""), "no_token"),
        (TOKENS, (), SIGNER.token(aud="other"), "wrong_audience"),
        (BOTH, (SPIFFE_ID,), None, "no_token"),
        (BOTH, (SPIFFE_ID,), SIGNER.token(exp=0), "token_expired"),
        (BOTH, (), TOKEN, "no_certificate"),
        (BOTH, (SPIFFE_ID, SPIFFE_ID), TOKEN, "several_spiffe_ids"),
    ],
)
async def test_f46_one_proof_does_not_stand_in_for_another(
    demanded: frozenset[KnownBy], names: tuple[str, ...], bearer: Secret | None, why: str
) -> None:
    """Each that is demanded must be there, and good."""
    assert await refusal(demanding(demanded), *names, bearer=bearer) == why


def test_authenticator_that_demands_nothing_can_not_be_made() -> None:
    """Serving anybody is a setting of its own, with a name that says so."""
    with pytest.raises(ValueError, match="must be demanded"):
        demanding(frozenset())


SEGMENTS = st.binary(max_size=60).map(segment) | st.text("AZaz09-_=", max_size=20)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["ES256", "none", "HS256", ["ES256"], None]),
        "kid": st.sampled_from(["key-1", "other", 7]),
        "crit": st.sampled_from([[], ["b64"], ["exp"], "b64", [7]]),
        "b64": st.sampled_from([True, False, 7]),
        "typ": st.text(max_size=5),
    },
)
ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti"]), ANYTHING, max_size=2
)
PARTS = st.tuples(HEADERS.map(segment) | SEGMENTS, CLAIMS.map(segment) | SEGMENTS, SEGMENTS).map(".".join)


async def outcome(bearer: Secret) -> Caller | str:
    """The caller, or one of the fixed words; anything else is a failure of the test."""
    try:
        caller = await demanding(TOKENS).authenticate(Credentials((), bearer))
    except CallerUnauthenticated as refused:
        return Refusal(refused.why)
    assert 0 < len(caller.name) <= MAX_SUBJECT_CHARACTERS
    assert caller.name.isascii()
    assert caller.name.isprintable()
    return caller


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | PARTS)
async def test_f46_whatever_comes_as_a_token_is_refused_in_words(text: str) -> None:
    """No crash, no other error, and no caller: none of these is signed."""
    try:
        bearer = Secret(text)
    except ValueError:
        return
    assert isinstance(await outcome(bearer), str)


@given(HEADERS | st.just({}), CLAIMS)
async def test_f46_whatever_an_issuer_signs_ends_in_a_caller_or_a_refusal(
    header: dict[str, object], changes: dict[str, object]
) -> None:
    """An issuer may have faults of its own; a name from it fits into a log line."""
    signed = f"{segment({'kid': 'key-1', 'alg': 'ES256'} | header)}.{segment(claims() | changes)}"
    await outcome(Secret(f"{signed}.{segment(signature_of(signed))}"))


def signature_of(signed: str) -> bytes:
    """SIGNER's signature."""
    assert isinstance(SIGNER.key, EllipticCurvePrivateKey)
    return ECAlgorithm(ECAlgorithm.SHA256).sign(signed.encode(), SIGNER.key)


async def test_f46_refusal_is_logged_by_its_reason_and_nothing_else() -> None:
    """Whoever operates the broker learns why; the log does not learn the token, or what it claims."""
    token = SIGNER.token(aud="canary-audience", sub="canary-subject")
    with structlog.testing.capture_logs() as lines:
        await refusal(demanding(TOKENS), bearer=token)
    keys, refused = lines
    assert keys["event"] == "caller_keys.changed"
    assert refused == {
        "event": "caller.refused",
        "log_level": "warning",
        "reason": "wrong_audience",
        "left_out": 0,
    }


async def test_f46_flood_of_bad_tokens_does_not_flood_the_log() -> None:
    """What was left out is counted; another reason still shows in the middle of the flood."""
    clock = FakeClock()
    authenticator = demanding(TOKENS, clock)
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            await refusal(authenticator, bearer=Secret("flood"))
        await refusal(authenticator)
        clock.advance(WINDOW - timedelta(microseconds=1))
        await refusal(authenticator, bearer=Secret("flood"))
        clock.advance(timedelta(microseconds=1))
        await refusal(authenticator, bearer=Secret("flood"))
        await refusal(authenticator, bearer=Secret("flood"))
    assert [(line["reason"], line["left_out"]) for line in lines] == [
        *[("malformed_token", 0)] * LINES_PER_WINDOW,
        ("no_token", 0),
        ("malformed_token", 1000 - LINES_PER_WINDOW + 1),
        ("malformed_token", 0),
    ]
