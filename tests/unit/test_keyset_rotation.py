"""The steps of a rotation, on keysets alone: which key seals, which open, and what is refused."""

import json

import pytest

from broker.adapters.keys import (
    KeyState,
    RotationRefused,
    TinkCipher,
    generate_keyset,
    keys_of,
    retirable,
    with_new_key,
    with_newest_primary,
    without,
)
from broker.domain.secret import Secret

TOKEN = Secret("an-access-token-that-nobody-may-see")
PLACE = b"table\0column\0row"


def test_f41_added_key_opens_and_does_not_seal() -> None:
    """Replicas that have not got it yet must be able to open what those that have it seal."""
    first = generate_keyset()
    added, key_id = with_new_key(first)
    (old,) = keys_of(first)
    assert keys_of(added) == [old, KeyState(key_id, primary=False, enabled=True)]
    assert TinkCipher(first).open(TinkCipher(added).seal(TOKEN, PLACE), PLACE) == TOKEN


def test_f41_promoted_key_seals_what_the_added_one_opens() -> None:
    """The step before it has been deployed everywhere, so every replica opens."""
    added, key_id = with_new_key(generate_keyset())
    promoted, promoted_id = with_newest_primary(added)
    sealed = TinkCipher(promoted).seal(TOKEN, PLACE)
    assert promoted_id == key_id == TinkCipher(promoted).sealed_by(sealed)
    assert TinkCipher(added).open(sealed, PLACE) == TOKEN


def test_f41_retiring_leaves_the_primary_key_alone() -> None:
    """Only what is older than it goes, and the rest opens as before."""
    added, _ = with_new_key(generate_keyset())
    promoted, key_id = with_newest_primary(added)
    retired = without(promoted, retirable(promoted))
    assert keys_of(retired) == [KeyState(key_id, primary=True, enabled=True)]
    assert TinkCipher(retired).open(TinkCipher(promoted).seal(TOKEN, PLACE), PLACE) == TOKEN


def test_key_that_waits_for_its_promotion_is_not_retired() -> None:
    """Nothing is sealed with it yet, which must not be taken for no longer."""
    added, key_id = with_new_key(generate_keyset())
    with pytest.raises(RotationRefused, match="nothing to retire"):
        retirable(added)
    again, newest = with_new_key(with_newest_primary(added)[0])
    assert newest not in retirable(again)
    assert key_id not in retirable(again)


def test_step_taken_twice_is_refused() -> None:
    """An operator who does not know how far it got must not make more keys by asking again."""
    first = generate_keyset()
    with pytest.raises(RotationRefused, match="add one first"):
        with_newest_primary(first)
    added, key_id = with_new_key(first)
    with pytest.raises(RotationRefused, match=f"{key_id} was added"):
        with_new_key(added)


def test_disabled_key_is_not_promoted() -> None:
    """It would seal what nobody opens."""
    added, key_id = with_new_key(generate_keyset())
    document = json.loads(added.reveal())
    document["key"][-1]["status"] = "DISABLED"
    with pytest.raises(RotationRefused, match=f"{key_id} is not enabled"):
        with_newest_primary(Secret(json.dumps(document)))


def test_added_keys_are_aes_256_gcm_and_all_different() -> None:
    """A key that is twice in a keyset has not been rotated."""
    keyset = generate_keyset()
    for _ in range(3):
        keyset, _ = with_newest_primary(with_new_key(keyset)[0])
    keys = json.loads(keyset.reveal())["key"]
    assert {key["keyData"]["typeUrl"].rsplit(".", 1)[1] for key in keys} == {"AesGcmKey"}
    assert {key["outputPrefixType"] for key in keys} == {"TINK"}
    assert len({key["keyData"]["value"] for key in keys}) == len({key["keyId"] for key in keys}) == len(keys)


def test_keyset_whose_ciphertexts_name_no_key_is_refused() -> None:
    """It could never be said which key may be retired. `token-broker keys generate` makes none such."""
    raw = generate_keyset().reveal().replace('"TINK"', '"RAW"')
    with pytest.raises(ValueError, match="output prefix"):
        TinkCipher(Secret(raw))


def test_f40_ciphertext_tells_its_key_and_whether_the_keyset_has_it() -> None:
    """That is how a wrong keyset is told from a row that was tampered with."""
    mine, other = TinkCipher(generate_keyset()), TinkCipher(generate_keyset())
    sealed = other.seal(TOKEN, PLACE)
    assert other.sealed_by(sealed) == other.primary_key_id
    assert not other.is_foreign(sealed)
    assert mine.is_foreign(sealed)
    assert mine.sealed_by(sealed[: mine.prefix_bytes]) == other.primary_key_id
    for garbled in (b"", sealed[:4], b"\x02" + sealed[1:]):
        assert mine.sealed_by(garbled) is None
        assert not mine.is_foreign(garbled)
