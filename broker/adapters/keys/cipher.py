"""Sealing by Tink: AEAD with a JSON keyset, the id of the key in each ciphertext."""

from collections.abc import Set as AbstractSet
from typing import Any, Final

import tink
from tink import aead
from tink import secret_key_access as tink_access
from tink.proto import tink_pb2

from broker.domain.errors import SealBroken
from broker.domain.secret import Secret

aead.register()

# What Tink puts before a ciphertext (developers.google.com/tink/wire-format): a version, and the key's id.
_PREFIX_VERSION: Final = b"\x01"
_PREFIX_BYTES: Final = 5
_WRAPPED_FIELD: Final = '"encryptedKeyset"'


class TinkCipher:
    """The Cipher port. Opens with every key of the keyset, seals with the primary one.

    Attributes:
        primary_key_id: of the key that seals.
        key_ids: of the keys that open.
    """

    # How many bytes at the beginning of a ciphertext tell the key.
    prefix_bytes = _PREFIX_BYTES

    def __init__(self, keyset: Secret) -> None:
        """Raises ValueError if `keyset` is no Tink JSON keyset of an AEAD whose ciphertexts name their key."""
        try:
            handle = tink.json_proto_keyset_format.parse(keyset.reveal(), tink_access.TOKEN)
            self._aead = handle.primitive(aead.Aead)
        except tink.TinkError:
            # Tink's own text may quote the keyset.
            raise ValueError(_why_no_keyset(keyset)) from None
        info = handle.keyset_info()
        if any(key.output_prefix_type != tink_pb2.TINK for key in info.key_info):
            raise ValueError(
                "is a Tink keyset with a key whose output prefix is not TINK: it can't be rotated"
            )
        self.primary_key_id: int = info.primary_key_id
        self.key_ids: AbstractSet[int] = _enabled(info)

    def seal(self, secret: Secret, context: bytes) -> bytes:
        """The ciphertext, bound to `context`."""
        return bytes(self._aead.encrypt(secret.reveal().encode(), context))

    def open(self, sealed: bytes, context: bytes) -> Secret:
        """The secret, or SealBroken."""
        try:
            return Secret(self._aead.decrypt(sealed, context).decode())
        except tink.TinkError:
            raise SealBroken(
                "a stored token does not open: wrong key, or moved or changed ciphertext"
            ) from None

    def sealed_by(self, sealed: bytes) -> int | None:
        """The id of the key that made a ciphertext, of which `prefix_bytes` suffice; None if it names none."""
        if len(sealed) < _PREFIX_BYTES or not sealed.startswith(_PREFIX_VERSION):
            return None
        return int.from_bytes(sealed[len(_PREFIX_VERSION) : _PREFIX_BYTES])

    def is_foreign(self, sealed: bytes) -> bool:
        """Whether a ciphertext names a key that is not in the keyset: then it is not the ciphertext that is wrong."""
        key_id = self.sealed_by(sealed)
        return key_id is not None and key_id not in self.key_ids


def generate_keyset() -> Secret:
    """A new keyset with one AES-256-GCM key, as Tink's JSON."""
    handle = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    return Secret(tink.json_proto_keyset_format.serialize(handle, tink_access.TOKEN))


def _enabled(info: Any) -> frozenset[int]:
    return frozenset(key.key_id for key in info.key_info if key.status == tink_pb2.ENABLED)


def _why_no_keyset(keyset: Secret) -> str:
    if _WRAPPED_FIELD in keyset.reveal():
        return "is a Tink keyset wrapped by a KMS; set TOKEN_BROKER_KEYSET_KMS_URI to the key that wraps it"
    return "is no Tink keyset for AEAD in JSON; make one with `token-broker keys generate`"
