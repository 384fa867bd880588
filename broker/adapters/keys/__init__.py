"""The keys that seal stored tokens: Tink's AEAD, the keyset, its rotation, its wrapping by a KMS."""

from broker.adapters.keys.cipher import TinkCipher, generate_keyset
from broker.adapters.keys.keyset_file import read_keyset_file, write_keyset_file
from broker.adapters.keys.rotation import (
    KeyState,
    RotationRefused,
    keys_of,
    retirable,
    with_new_key,
    with_newest_primary,
    without,
)
from broker.adapters.keys.wrapping import cipher_of, kek_of, opened_keyset, wrapped

__all__ = [
    "KeyState",
    "RotationRefused",
    "TinkCipher",
    "cipher_of",
    "generate_keyset",
    "kek_of",
    "keys_of",
    "opened_keyset",
    "read_keyset_file",
    "retirable",
    "with_new_key",
    "with_newest_primary",
    "without",
    "wrapped",
    "write_keyset_file",
]
