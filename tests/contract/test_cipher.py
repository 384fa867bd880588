"""Cipher: seals open in their own place, with a key of the keyset, and nowhere else."""

import json

import pytest
import tink
from hypothesis import given
from hypothesis import strategies as st
from tink import mac
from tink import secret_key_access as tink_access

from broker.adapters.keys import TinkCipher, generate_keyset
from broker.domain.errors import SealBroken
from broker.domain.secret import Secret
from broker.ports import Cipher
from tests.fakes.samples import CIPHER

TOKEN = Secret("an-access-token-that-nobody-may-see")
PLACE = b"table\0column\0row"
mac.register()


def written(handle: tink.KeysetHandle) -> str:
    """A keyset as its JSON."""
    return str(tink.json_proto_keyset_format.serialize(handle, tink_access.TOKEN))


def both_keys(first: Secret, second: Secret) -> Secret:
    """A keyset in the middle of a rotation: seals with `second`, opens with either."""
    old, new = json.loads(first.reveal()), json.loads(second.reveal())
    return Secret(json.dumps({"primaryKeyId": new["primaryKeyId"], "key": old["key"] + new["key"]}))


@given(st.text(), st.binary())
def test_what_was_sealed_opens_in_its_place(value: str, place: bytes) -> None:
    """Whatever Envoy puts into a token, and whatever the names of a row."""
    assert CIPHER.open(CIPHER.seal(Secret(value), place), place) == Secret(value)


@given(st.binary(), st.binary())
def test_f42_seal_does_not_open_in_another_place(one: bytes, other: bytes) -> None:
    """The place is part of the seal, to the last byte."""
    sealed = CIPHER.seal(TOKEN, one)
    if one == other:
        assert CIPHER.open(sealed, other) == TOKEN
        return
    with pytest.raises(SealBroken):
        CIPHER.open(sealed, other)


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_changed_ciphertext_does_not_open(place: int) -> None:
    """One bit anywhere: in the key's id, the nonce, the text or the tag."""
    sealed = bytearray(CIPHER.seal(TOKEN, PLACE))
    sealed[place] ^= 1
    with pytest.raises(SealBroken):
        CIPHER.open(bytes(sealed), PLACE)


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01\x00\x00\x00\x00", b"plain text"])
def test_garbled_ciphertext_does_not_open(sealed: bytes) -> None:
    """A truncated column is the same alarm as a forged one."""
    with pytest.raises(SealBroken):
        CIPHER.open(sealed, PLACE)


def test_same_token_sealed_twice_looks_different() -> None:
    """The table does not show that two installs have the same token, or that one did not change."""
    assert CIPHER.seal(TOKEN, PLACE) != CIPHER.seal(TOKEN, PLACE)


def test_ciphertext_does_not_show_the_token() -> None:
    """P5."""
    assert TOKEN.reveal().encode() not in CIPHER.seal(TOKEN, PLACE)


def test_f40_another_key_does_not_open_and_says_nothing() -> None:
    """The text names the likely cause, and neither key nor token."""
    with pytest.raises(SealBroken) as caught:
        TinkCipher(generate_keyset()).open(CIPHER.seal(TOKEN, PLACE), PLACE)
    assert caught.value.__cause__ is None
    assert TOKEN.reveal() not in repr(caught.value)


def test_f41_rotation_opens_old_and_new() -> None:
    """Old and new pods together: the new keyset opens what the old one sealed, and what it sealed itself."""
    old_keys, new_keys = generate_keyset(), generate_keyset()
    old: Cipher = TinkCipher(old_keys)
    rotating: Cipher = TinkCipher(both_keys(old_keys, new_keys))
    assert rotating.open(old.seal(TOKEN, PLACE), PLACE) == TOKEN
    assert TinkCipher(new_keys).open(rotating.seal(TOKEN, PLACE), PLACE) == TOKEN


IMPOSSIBLE = {
    "empty": "",
    "no JSON": "not a keyset",
    "null": "null",
    "a list": "[]",
    "an empty object": "{}",
    "no keys": '{"primaryKeyId": 1, "key": []}',
    "half of a keyset": generate_keyset().reveal()[:-20],
    "keys of another kind": written(tink.new_keyset_handle(mac.mac_key_templates.HMAC_SHA256_256BITTAG)),
    "a disabled key": generate_keyset().reveal().replace("ENABLED", "DISABLED"),
    "not ASCII": "é",
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_f40_impossible_keyset_is_refused_without_showing_it(kind: str) -> None:
    """At the start, by a text that says what to do; Tink's own may quote the key."""
    with pytest.raises(ValueError, match="Tink keyset") as caught:
        TinkCipher(Secret(IMPOSSIBLE[kind]))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_generated_keyset_is_one_aes_256_gcm_key_and_new_each_time() -> None:
    """The id of the key stands in each ciphertext, so that rotation can tell them apart."""
    keysets = [json.loads(generate_keyset().reveal()) for _ in range(2)]
    for keyset in keysets:
        (key,) = keyset["key"]
        assert key["keyData"]["typeUrl"].endswith("AesGcmKey")
        assert key["outputPrefixType"] == "TINK"
        assert key["keyId"] == keyset["primaryKeyId"]
    assert keysets[0] != keysets[1]
