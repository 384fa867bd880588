"""Bearer tokens: which are believed, and whose they are. F46's matrix."""

import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.adapters.identity.bearer_tokens import BearerTokens
from broker.adapters.identity.jwks import ASYMMETRIC_ALGORITHMS
from broker.adapters.identity.token_verification import (
    LEEWAY,
    MAX_SUBJECT_CHARACTERS,
    MAX_TOKEN_CHARACTERS,
    TokenTerms,
)
from broker.domain.errors import CallerUnauthenticated
from broker.domain.secret import Secret
from tests.fakes.clock import NOON
from tests.tokens_of_callers import (
    AUDIENCE,
    ISSUER,
    SUBJECT,
    Signer,
    bearer_tokens,
    claims,
    segment,
)

SIGNER = Signer.new("ES256")
RSA_SIGNER = Signer.new("RS256", "rsa")
NOON_SECONDS = int(NOON.timestamp())


async def refusal(tokens: BearerTokens, token: Secret | str) -> str:
    """Why the token is refused. The error holds nothing of it."""
    token = token if isinstance(token, Secret) else Secret(token)
    with pytest.raises(CallerUnauthenticated) as refused:
        await tokens.subject_of(token)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    return refused.value.why


@pytest.mark.parametrize("algorithm", sorted(ASYMMETRIC_ALGORITHMS))
async def test_good_token_names_its_subject(algorithm: str) -> None:
    """By every algorithm that can be configured."""
    signer = Signer.new(algorithm)
    assert await bearer_tokens(signer).subject_of(signer.token()) == SUBJECT


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
async def test_audience_may_stand_alone_or_in_a_list(audience: object) -> None:
    """Kubernetes writes a list."""
    assert await bearer_tokens(SIGNER).subject_of(SIGNER.token(aud=audience)) == SUBJECT


REFUSED_CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    "expired": ({"exp": NOON_SECONDS - 1}, "token_expired"),
    "expired just now": ({"exp": NOON_SECONDS}, "token_expired"),
    "expired before there was time": ({"exp": -(10**30)}, "token_expired"),
    "not yet valid": ({"nbf": NOON_SECONDS + 31}, "token_not_yet_valid"),
    "not valid in this era": ({"nbf": 1e300}, "token_not_yet_valid"),
    "not valid for longer than floats know": ({"nbf": 10**400}, "token_not_yet_valid"),
    "issued in the future": ({"iat": NOON_SECONDS + 31}, "token_not_yet_valid"),
    "without an end": ({"exp": None}, "missing_claim"),
    "with an end in words": ({"exp": str(NOON_SECONDS + 60)}, "malformed_token"),
    "whose end is no number": ({"exp": float("nan")}, "malformed_token"),
    "whose end is true": ({"exp": True}, "malformed_token"),
    "whose beginning is a list": ({"nbf": [NOON_SECONDS]}, "malformed_token"),
    "whose beginning is null": ({"sub": SUBJECT, "iat": {}}, "malformed_token"),
    "without an audience": ({"aud": None}, "missing_claim"),
    "with an empty list of audiences": ({"aud": []}, "missing_claim"),
    "for another audience": ({"aud": "other"}, "wrong_audience"),
    "for other audiences": ({"aud": ["other", AUDIENCE + "s"]}, "wrong_audience"),
    "for an audience that contains ours": ({"aud": f"{AUDIENCE} other"}, "wrong_audience"),
    "for numbered audiences": ({"aud": [AUDIENCE, 7]}, "wrong_audience"),
    "for an object": ({"aud": {AUDIENCE: 1}}, "wrong_audience"),
    "of another issuer": ({"iss": ISSUER + "/"}, "wrong_issuer"),
    "of no issuer": ({"iss": None}, "missing_claim"),
    "without a subject": ({"sub": None}, "missing_claim"),
    "with an empty subject": ({"sub": ""}, "name_malformed"),
    "with a numbered subject": ({"sub": 7}, "malformed_token"),
    "with a subject of two lines": ({"sub": "a\nb"}, "name_malformed"),
    "with a subject that ends a line": ({"sub": "a\n"}, "name_malformed"),
    "with a subject in colour": ({"sub": "\x1b[31ma"}, "name_malformed"),
    "with a subject that looks like another": ({"sub": "p\u0430yments"}, "name_malformed"),
    "with half a character for a subject": ({"sub": "\ud800"}, "name_malformed"),
    "with an endless subject": ({"sub": "a" * (MAX_SUBJECT_CHARACTERS + 1)}, "name_malformed"),
    "of an id that is no text": ({"jti": 7}, "malformed_token"),
}


@pytest.mark.parametrize("kind", REFUSED_CLAIMS)
async def test_f46_signed_token_that_claims_what_it_must_not_is_refused(kind: str) -> None:
    """The signature is good each time: it does not make up for the rest."""
    changes, why = REFUSED_CLAIMS[kind]
    payload = json.dumps(claims(**changes)).encode()
    signed = jwt_of(payload)
    assert await refusal(bearer_tokens(SIGNER), signed) == why


def jwt_of(payload: bytes) -> str:
    """The payload as it is, signed: PyJWT's own encoder refuses some of what an issuer might write."""
    return jwt.PyJWS().encode(payload, SIGNER.key, "ES256", {"kid": SIGNER.kid})


@pytest.mark.parametrize("end", [NOON_SECONDS + 0.5, 1e300, float("inf"), 10**400])
async def test_end_may_be_any_number_in_the_future(end: float) -> None:
    """NumericDate allows fractions (RFC 7519, section 2), and nothing bounds it."""
    assert (
        await bearer_tokens(SIGNER).subject_of(Secret(jwt_of(json.dumps(claims(exp=end)).encode())))
        == SUBJECT
    )


async def test_clocks_that_differ_a_little_do_not_matter() -> None:
    """The issuer's may be ahead; a token's end gets no such leeway."""
    ahead = NOON_SECONDS + int(LEEWAY.total_seconds())
    assert await bearer_tokens(SIGNER).subject_of(SIGNER.token(iat=ahead, nbf=ahead)) == SUBJECT


def hs256_with_the_public_key(key: bytes) -> str:
    """A token that anybody could make who knows the public key."""
    signed = f"{segment({'alg': 'HS256', 'kid': 'rsa'})}.{segment(claims())}"
    return f"{signed}.{segment(hmac.digest(key, signed.encode(), hashlib.sha256))}"


async def test_f46_public_key_is_no_secret() -> None:
    """HS256 with the public key as the secret, in every form somebody might have tried."""
    public = RSA_SIGNER.key.public_key()
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(RSA_SIGNER.jwk()).encode(),
    ]
    for form in forms:
        token = hs256_with_the_public_key(form)
        assert await refusal(bearer_tokens(RSA_SIGNER), token) == "algorithm_not_allowed"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS256", "ES256K", "RS1", "", None, 7, ["ES256"], {}]
)
async def test_f46_algorithm_is_not_the_tokens_choice(algorithm: object) -> None:
    """`alg: none` in every spelling, and what is no algorithm at all; with a good signature, and without one."""
    head, body, signature = SIGNER.token().reveal().split(".")
    for end in (signature, ""):
        token = f"{segment({'alg': algorithm, 'kid': 'key-1'})}.{body}.{end}"
        assert await refusal(bearer_tokens(SIGNER), token) == "algorithm_not_allowed"
    assert await refusal(bearer_tokens(SIGNER), f"{head}.{body}.") == "bad_signature"


async def test_f46_algorithm_that_is_not_configured_is_refused() -> None:
    """Even if the key could verify it."""
    tokens = bearer_tokens(RSA_SIGNER, algorithms=frozenset({"PS256"}))
    assert await refusal(tokens, RSA_SIGNER.token()) == "algorithm_not_allowed"


async def test_f46_key_of_another_type_is_refused() -> None:
    """Both algorithms are configured; the key named can't verify the one that the token says."""
    tokens = bearer_tokens(SIGNER, RSA_SIGNER)
    swapped = Signer(SIGNER.kid, "RS256", RSA_SIGNER.key)
    assert await refusal(tokens, swapped.token()) == "algorithm_not_allowed"
    assert (
        await refusal(tokens, Signer(RSA_SIGNER.kid, "ES256", SIGNER.key).token()) == "algorithm_not_allowed"
    )


async def test_f46_forged_signature_is_refused() -> None:
    """Another's key, another's signature, and claims that were changed afterwards."""
    tokens = bearer_tokens(SIGNER)
    assert await refusal(tokens, Signer.new().token()) == "bad_signature"
    head, body, signature = SIGNER.token().reveal().split(".")
    assert await refusal(tokens, f"{head}.{segment(claims(sub='payments'))}.{signature}") == "bad_signature"
    assert await refusal(tokens, f"{head}.{body}.{segment(bytes(64))}") == "bad_signature"


async def test_f46_forged_token_is_not_told_what_else_is_wrong() -> None:
    """Nothing that it claims is looked at before its signature."""
    assert await refusal(bearer_tokens(SIGNER), Signer.new().token(exp=0, aud="other")) == "bad_signature"


async def test_f46_key_that_is_not_in_the_set_is_refused() -> None:
    """Nor is a token that names none: guessing among keys helps nobody but forgers."""
    assert await refusal(bearer_tokens(SIGNER), Signer.new(kid="key-2").token()) == "unknown_key"
    assert await refusal(bearer_tokens(SIGNER), SIGNER.sign(claims(), kid=None)) == "malformed_token"


@pytest.mark.parametrize("where", ["jwk", "jku", "x5c", "x5u"])
async def test_f46_token_does_not_bring_its_own_key(where: str) -> None:
    """Keys come from the configured set alone (RFC 8725, section 3.10)."""
    stranger = Signer.new()
    values = {
        "jwk": stranger.jwk(),
        "jku": "https://evil.example/",
        "x5c": ["AAAA"],
        "x5u": "https://evil.example/",
    }
    token = stranger.sign(claims(), **{where: values[where]})
    assert await refusal(bearer_tokens(SIGNER), token) == "bad_signature"


GARBAGE = {
    "nothing": "",
    "dots": "..",
    "words": "not a token",
    "two parts": "a.b",
    "five parts": "a.b.c.d.e",
    "an encrypted token's header": f"{segment({'alg': 'dir', 'enc': 'A128GCM'})}.a.b.c.d",
    "another alphabet": SIGNER.token().reveal().replace(".", "/."),
    "padding": SIGNER.token().reveal() + "==",
    "a space": " " + SIGNER.token().reveal(),
    "a line": SIGNER.token().reveal() + "\n",
    "not ASCII": "é.é.é",
    "a header that is no JSON": f"{segment(b'nothing')}.e30.AAAA",
    "a header that is no object": f"{segment([])}.e30.AAAA",
    "a header of nothing": f"{segment({})}.e30.AAAA",
    "a header without end": f"{segment(b'[' * 5000)}.e30.AAAA",
    "a numbered key": f"{segment({'alg': 'ES256', 'kid': 7})}.e30.AAAA",
    "a critical extension": SIGNER.sign(claims(), crit=["exp"], exp=1).reveal(),
    "a detached payload": SIGNER.sign(claims(), b64=False).reveal(),
    "a payload that is no object": jwt_of(b"[]"),
    "a payload that is no JSON": jwt_of(b"nothing"),
    "a payload of endless digits": jwt_of(b'{"exp": ' + b"9" * 5000 + b"}"),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_f46_what_is_no_token_is_refused(kind: str) -> None:
    """Whatever stands behind Bearer."""
    assert await refusal(bearer_tokens(SIGNER), GARBAGE[kind]) == "malformed_token"


async def test_f46_oversized_token_is_refused_before_it_is_read() -> None:
    """Even a well signed one: parsing is work that anybody could make us do."""
    tokens = bearer_tokens(SIGNER)
    assert await refusal(tokens, "a" * (MAX_TOKEN_CHARACTERS + 1)) == "token_too_large"
    assert await refusal(tokens, SIGNER.token(padding="a" * MAX_TOKEN_CHARACTERS)) == "token_too_large"
    assert await refusal(tokens, "a" * MAX_TOKEN_CHARACTERS) == "malformed_token"


@pytest.mark.parametrize("algorithms", [{"HS256"}, {"none"}, {"ES256", "HS512"}, {"es256"}, set()])
def test_f46_algorithms_that_are_no_signatures_can_not_be_configured(algorithms: set[str]) -> None:
    """A slip in the settings must not open the door."""
    with pytest.raises(ValueError, match="algorithms must be"):
        TokenTerms(ISSUER, AUDIENCE, frozenset(algorithms))


@pytest.mark.parametrize(("issuer", "audience"), [("", AUDIENCE), (ISSUER, "")])
def test_issuer_and_audience_must_be_said(issuer: str, audience: str) -> None:
    """Without them any token of any issuer that shares a key would do."""
    with pytest.raises(ValueError, match="must not be empty"):
        TokenTerms(issuer, audience)
