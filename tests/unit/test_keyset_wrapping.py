"""Keysets wrapped by a KMS: a fake KMS stands in for the three, and their packages are not there."""

import sys
from types import ModuleType
from typing import Any, Final

import pytest
import tink
from tink import aead

from broker.adapters.keys import TinkCipher, generate_keyset, kek_of, opened_keyset, wrapped
from broker.adapters.keys.wrapping import unwrapped
from broker.domain.secret import Secret

URI: Final = "aws-kms://arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
URIS: Final = {
    "awskms": URI,
    "gcpkms": "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
    "hcvault": "hcvault://vault.example:8200/transit/keys/token-broker",
}
MARK: Final = "do-not-show-me"


class Refused(Exception):
    """What a KMS's client raises that lacks a permission."""


class RefusingKek:
    """A KMS that says no, and too much."""

    def decrypt(self, _ciphertext: bytes, _associated_data: bytes) -> bytes:
        """Refuse."""
        raise tink.TinkError(Refused(MARK))

    encrypt = decrypt


class FakeKms(tink.KmsClient):  # type: ignore[misc]  # tink has no types
    """A KMS with one key, bound to a URI as AwsKmsClient is."""

    kek: Final = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)

    def __init__(self, key_uri: str, credentials_path: str | None) -> None:
        assert credentials_path is None
        self._key_uri = key_uri

    def does_support(self, key_uri: str) -> bool:
        """Whether it is the one key's."""
        return key_uri == self._key_uri

    def get_aead(self, key_uri: str) -> Any:
        """The one key."""
        assert self.does_support(key_uri)
        return self.kek


@pytest.fixture
def fake_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tink's integration with AWS as if its packages were there, with a KMS of ours."""
    module = ModuleType("tink.integration.awskms")
    module.AwsKmsClient = FakeKms  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("fake_aws")
def test_wrapped_keyset_shows_no_key_and_opens_with_its_kek() -> None:
    """A copy of the file is worth nothing without the KMS."""
    keyset = generate_keyset()
    closed = wrapped(keyset, kek_of(URI))
    assert "encryptedKeyset" in closed.reveal()
    (material,) = [line for line in keyset.reveal().splitlines() if '"value"' in line]
    assert material.split('"')[3] not in closed.reveal()
    opened = opened_keyset(closed, URI)
    sealed = TinkCipher(keyset).seal(Secret("a token"), b"")
    assert TinkCipher(opened).open(sealed, b"") == Secret("a token")


def test_keyset_without_a_kms_stays_as_it_is() -> None:
    """A KMS is a choice."""
    keyset = generate_keyset()
    assert opened_keyset(keyset, None) is keyset
    assert opened_keyset(keyset, "") is keyset


def test_f40_wrapped_keyset_without_its_kms_says_which_setting_is_missing() -> None:
    """It is a keyset, and not a wrong one."""
    with pytest.raises(ValueError, match="TOKEN_BROKER_KEYSET_KMS_URI"):
        TinkCipher(wrapped(generate_keyset(), FakeKms.kek))


@pytest.mark.parametrize("kind", ["another KEK's", "plain", "truncated", "empty"])
def test_f40_keyset_that_does_not_unwrap_is_refused_without_showing_it(kind: str) -> None:
    """Tink's text may quote what it could not read."""
    closed = wrapped(generate_keyset(), FakeKms.kek).reveal()
    another = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
    keysets = {
        "another KEK's": wrapped(generate_keyset(), another),
        "plain": generate_keyset(),
        "truncated": Secret(closed[:-20]),
        "empty": Secret(""),
    }
    with pytest.raises(ValueError, match="unwraps") as caught:
        unwrapped(keysets[kind], FakeKms.kek)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_f40_refusal_of_the_kms_is_named_by_its_class_alone() -> None:
    """A KMS's client may say what it was given."""
    closed = wrapped(generate_keyset(), FakeKms.kek)
    with pytest.raises(ValueError, match=r"\(Refused\)") as unwrapping:
        unwrapped(closed, RefusingKek())
    with pytest.raises(ValueError, match=r"\(Refused\)") as wrapping:
        wrapped(generate_keyset(), RefusingKek())
    for caught in (unwrapping, wrapping):
        assert MARK not in str(caught.value)


@pytest.mark.parametrize("extra", URIS)
def test_missing_packages_are_named_as_the_extra_that_has_them(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker does without three clouds' clients until one is asked for."""
    monkeypatch.setitem(sys.modules, f"tink.integration.{extra}", None)
    with pytest.raises(ValueError, match=rf"install envoy-token-broker\[{extra}\]"):
        kek_of(URIS[extra])


def test_unknown_kms_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match=r"aws-kms://, gcp-kms://, hcvault://"):
        kek_of("azure-kms://vault/keys/one")
