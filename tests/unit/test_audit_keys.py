"""The audit's keys: one secret, two keys that tell nothing of each other, and a public one for who verifies."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.audit.keys import AuditKeys, PublicKey, generate_audit_key
from broker.domain.secret import Secret

SECRET = Secret(base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("="))
KEYS = AuditKeys(SECRET)
OTHER_KEYS = AuditKeys(generate_audit_key())
TOKEN = Secret("an-access-token-that-nobody-may-see")


@given(st.text())
def test_same_token_has_the_same_fingerprint_and_another_key_gives_another(token: str) -> None:
    """A reviewer follows a token through the trail; somebody with a stolen token and no key can't look it up."""
    assert KEYS.fingerprint(Secret(token)) == AuditKeys(SECRET).fingerprint(Secret(token))
    assert KEYS.fingerprint(Secret(token)) != OTHER_KEYS.fingerprint(Secret(token))


@given(st.text(), st.text())
def test_other_tokens_have_other_fingerprints(one: str, other: str) -> None:
    """Else the trail would say of two tokens that they are one."""
    assert (KEYS.fingerprint(Secret(one)) == KEYS.fingerprint(Secret(other))) == (one == other)


def test_keys_of_a_release_are_those_of_the_next() -> None:
    """A fingerprint must be found, and a trail verified, years later: another derivation would be another format."""
    assert KEYS.fingerprint(TOKEN) == "00a1236cf5f9e77c65d517eb5d896a31"
    assert KEYS.public_key == "11332c30b0cf3be72f0a1f22ec2ad9afa653f0e30b2ac60dc21a80dbc91afb89"
    assert KEYS.public_key_id == "489abec1ecb42675"


def test_public_key_knows_its_signature_and_no_other() -> None:
    """Not one of another message, nor of another key."""
    public = PublicKey.parse(KEYS.public_key)
    assert public.has_signed(b"message", bytes.fromhex(KEYS.sign(b"message")))
    assert not public.has_signed(b"massage", bytes.fromhex(KEYS.sign(b"message")))
    assert not public.has_signed(b"message", bytes.fromhex(OTHER_KEYS.sign(b"message")))
    assert not public.has_signed(b"message", b"")


def test_generated_secret_is_new_each_time_and_can_be_used() -> None:
    """What `keys generate-audit` prints is what TOKEN_BROKER_AUDIT_KEY takes, with base64's padding or without."""
    one, other = generate_audit_key(), generate_audit_key()
    assert one != other
    assert AuditKeys(one).public_key == AuditKeys(Secret(one.reveal() + "=")).public_key


IMPOSSIBLE = {
    "empty": "",
    "too short": base64.urlsafe_b64encode(bytes(31)).decode(),
    "too long": base64.urlsafe_b64encode(bytes(33)).decode(),
    "not base64url": "+" + SECRET.reveal()[1:],
    "with a blank": " " + SECRET.reveal(),
    "another spelling of the same bytes": SECRET.reveal()[:-1] + "9",
    "not ASCII": "é" * 43,
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_impossible_secret_is_refused_without_showing_it(kind: str) -> None:
    """At the start, by a text that says what to do."""
    with pytest.raises(ValueError, match=r"^must be 32 random bytes as base64url; make one with") as caught:
        AuditKeys(Secret(IMPOSSIBLE[kind]))
    assert not IMPOSSIBLE[kind] or IMPOSSIBLE[kind] not in repr(caught.value)


@pytest.mark.parametrize(
    "text", ["", KEYS.public_key[:-2], KEYS.public_key + "00", KEYS.public_key.upper(), "x" * 64]
)
def test_impossible_public_key_is_refused(text: str) -> None:
    """A trail must not pass since the key was cut off when it was copied."""
    with pytest.raises(ValueError, match="is no public key"):
        PublicKey.parse(text)


def test_keys_do_not_show_themselves() -> None:
    """P5: an object that holds a key is what a log line or a debugger prints first."""
    shown = repr(KEYS) + str(vars(KEYS))
    assert SECRET.reveal() not in shown
    assert bytes(range(32)).hex() not in shown
