"""Sealing by Tink: AEAD with a JSON keyset, the id of the key in each ciphertext."""

import tink
from tink import aead
from tink import secret_key_access as tink_access

from broker.domain.errors import SealBroken
from broker.domain.secret import Secret

aead.register()


class TinkCipher:
    """The Cipher port. Opens with every key of the keyset, seals with the primary one."""

    def __init__(self, keyset: Secret) -> None:
        """Raises ValueError if `keyset` is no Tink JSON keyset of an AEAD."""
        try:
            handle = tink.json_proto_keyset_format.parse(keyset.reveal(), tink_access.TOKEN)
            self._aead = handle.primitive(aead.Aead)
        except tink.TinkError:
            # Tink's own text may quote the keyset.
            raise ValueError(
                "is no Tink keyset for AEAD in JSON; make one with `token-broker keys generate`"
            ) from None

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


def generate_keyset() -> Secret:
    """A new keyset with one AES-256-GCM key, as Tink's JSON."""
    handle = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    return Secret(tink.json_proto_keyset_format.serialize(handle, tink_access.TOKEN))
