"""Rotation of a keyset: a key is added, then made primary, then retired; each step is deployed before the next.

Tink's Python has no keyset manager (tink 1.16), so the steps are taken on the keyset's proto. Keys stand in the order of
their age: the last is the newest.
"""

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import tink
from tink.proto import tink_pb2

from broker.adapters.keys.cipher import TinkCipher, generate_keyset
from broker.domain.secret import Secret

# Ids are 32 random bits: one that is taken is rare, and twice in a row means that something else is wrong.
_ATTEMPTS: Final = 8


class RotationRefused(Exception):
    """A step that would lose tokens, or has nothing to do. Its text says what to do first."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """What may be shown of a key."""

    key_id: int
    primary: bool
    enabled: bool


def keys_of(keyset: Secret) -> list[KeyState]:
    """The keys, the oldest first. Raises ValueError as TinkCipher does."""
    proto = _read(keyset)
    return [
        KeyState(key.key_id, key.key_id == proto.primary_key_id, key.status == tink_pb2.ENABLED)
        for key in proto.key
    ]


def with_new_key(keyset: Secret) -> tuple[Secret, int]:
    """The keyset with one more key, which opens and does not seal yet; and the new key's id.

    Raises:
        RotationRefused: there is one already.
    """
    proto = _read(keyset)
    newest = proto.key[-1].key_id
    if newest != proto.primary_key_id:
        raise RotationRefused(f"key {newest} was added and is not primary yet: promote it first")
    taken = {key.key_id for key in proto.key}
    for _ in range(_ATTEMPTS):
        (key,) = _read(generate_keyset()).key
        if key.key_id not in taken:
            proto.key.append(key)
            return _written(proto), key.key_id
    raise RotationRefused("no key id could be found that is not taken")


def with_newest_primary(keyset: Secret) -> tuple[Secret, int]:
    """The keyset that seals with its newest key; and that key's id.

    Raises:
        RotationRefused: it does already, or the newest key is disabled.
    """
    proto = _read(keyset)
    newest = proto.key[-1]
    if newest.key_id == proto.primary_key_id:
        raise RotationRefused(f"key {newest.key_id} is the newest, and primary already: add one first")
    if newest.status != tink_pb2.ENABLED:
        raise RotationRefused(f"key {newest.key_id} is not enabled")
    proto.primary_key_id = newest.key_id
    return _written(proto), newest.key_id


def retirable(keyset: Secret) -> list[int]:
    """The ids of the keys older than the primary one. A newer one only waits for its promotion.

    Raises:
        RotationRefused: there is none.
    """
    ids = [key.key_id for key in _read(keyset).key]
    older = ids[: ids.index(TinkCipher(keyset).primary_key_id)]
    if not older:
        raise RotationRefused("no key is older than the primary one: there is nothing to retire")
    return older


def without(keyset: Secret, key_ids: Collection[int]) -> Secret:
    """The keyset without these keys. What they sealed opens no more."""
    proto = _read(keyset)
    kept = [key for key in proto.key if key.key_id not in key_ids]
    del proto.key[:]
    proto.key.extend(kept)
    return _written(proto)


def _read(keyset: Secret) -> Any:
    TinkCipher(keyset)  # its errors say what is wrong, and do not quote
    return tink.JsonKeysetReader(keyset.reveal()).read()


def _written(proto: Any) -> Secret:
    stream = io.StringIO()
    tink.JsonKeysetWriter(stream).write(proto)
    keyset = Secret(stream.getvalue())
    TinkCipher(keyset)  # what is deployed to every replica must be one that serves
    return keyset
