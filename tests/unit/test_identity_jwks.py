"""What of a key set is believed."""

import json
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.identity.jwks import ASYMMETRIC_ALGORITHMS, MAX_KEYS, KeysNotRead, parse_key_set
from tests.tokens_of_callers import RSA_KEY, Signer, key_set_of

GOOD = Signer.new("ES256", "good")


def problem(document: bytes) -> str:
    """Why the document is no key set."""
    with pytest.raises(KeysNotRead) as refused:
        parse_key_set(document)
    return refused.value.kind


def key_ids(*jwks: Mapping[str, object]) -> set[str]:
    """The ids of the keys that are taken from a set."""
    return set(parse_key_set(key_set_of(*jwks)))


@pytest.mark.parametrize(
    ("algorithm", "verifies"),
    [
        ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("ES512", {"ES512"}),
        ("EdDSA", {"EdDSA"}),
    ],
)
def test_f46_key_verifies_the_algorithms_of_its_type_alone(algorithm: str, verifies: set[str]) -> None:
    """A token can't have a key used for what it is not."""
    signer = Signer.new(algorithm)
    assert parse_key_set(key_set_of(signer.jwk()))["key-1"].algorithms == verifies
    assert parse_key_set(key_set_of(signer.jwk(alg=algorithm)))["key-1"].algorithms == {algorithm}


def test_f46_no_secret_key_is_among_the_algorithms() -> None:
    """With HS256 a public key, which everybody has, would be a secret; with none there is none."""
    assert not {algorithm for algorithm in ASYMMETRIC_ALGORITHMS if algorithm.startswith(("HS", "none"))}


UNUSABLE: dict[str, dict[str, object]] = {
    "symmetric": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "kid": "bad", "alg": "HS256"},
    "for encryption": GOOD.jwk(kid="bad", use="enc"),
    "that only signs": GOOD.jwk(kid="bad", key_ops=["sign"]),
    "without an id": {name: value for name, value in GOOD.jwk().items() if name != "kid"},
    "with an empty id": GOOD.jwk(kid=""),
    "with an id of another kind": GOOD.jwk(kid=7),
    "with an endless id": GOOD.jwk(kid="a" * 257),
    "for another algorithm": GOOD.jwk(kid="bad", alg="RS256"),
    "for no algorithm": GOOD.jwk(kid="bad", alg="none"),
    "of no type": GOOD.jwk(kid="bad", kty=["EC"]),
    "on another curve": GOOD.jwk(kid="bad", crv="secp256k1"),
    "off its curve": GOOD.jwk(kid="bad", x=GOOD.jwk()["y"]),
    "without a coordinate": {name: value for name, value in GOOD.jwk(kid="bad").items() if name != "y"},
    "with a number for a coordinate": GOOD.jwk(kid="bad", x=7),
    "too short": Signer("bad", "RS256", generate_private_key(65537, 1024)).jwk(),  # noqa: S505  # to be refused
    "that is even": Signer("bad", "RS256", RSA_KEY).jwk(e="Ag"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_key_is_left_out_and_the_others_serve(kind: str) -> None:
    """Issuers publish keys of several kinds in one set."""
    assert key_ids(GOOD.jwk(), UNUSABLE[kind]) == {"good"}
    assert problem(key_set_of(UNUSABLE[kind])) == "no_usable_key"


def test_f46_kid_that_stands_twice_spoils_the_set() -> None:
    """Nobody can tell which one a token means; a second key under a known id could be a stranger's."""
    assert problem(key_set_of(GOOD.jwk(), Signer.new("ES256", "good").jwk())) == "kid_repeated"


def test_key_set_is_bounded() -> None:
    """An issuer has a handful of keys."""
    assert len(key_ids(*(GOOD.jwk(kid=str(number)) for number in range(MAX_KEYS)))) == MAX_KEYS
    assert (
        problem(key_set_of(*(GOOD.jwk(kid=str(number)) for number in range(MAX_KEYS + 1)))) == "too_many_keys"
    )


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (b"", "not_json"),
        (b"\xff", "not_utf8"),
        (b"[" * 100_000, "too_deep"),
        (b"[]", "not_an_object"),
        (b"{}", "not_a_key_set"),
        (b'{"keys": {}}', "not_a_key_set"),
        (b'{"keys": [], "keys": []}', "not_a_key_set"),
        (b'{"keys": [null, 1, "a", []]}', "no_usable_key"),
    ],
)
def test_what_is_no_key_set_is_refused(document: bytes, kind: str) -> None:
    """A captive portal's page must not empty the set that is in use."""
    assert problem(document) == kind


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y"]),
        JSON | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "sig", "ES256", "AQAB"]),
    )
)
def test_whatever_an_entry_says_fails_in_one_way(entry: dict[str, object]) -> None:
    """The issuer's document is another's text: none of it may end a read in an unforeseen way."""
    document = json.dumps({"keys": [GOOD.jwk(), entry]}).encode()
    try:
        keys = parse_key_set(document)
    except KeysNotRead:
        return
    assert "good" in keys
