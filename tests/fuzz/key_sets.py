"""Key sets of an issuer. The input is the document."""

from typing import Final

from broker.adapters.identity.jwks import (
    ASYMMETRIC_ALGORITHMS,
    MAX_KEY_ID_CHARACTERS,
    MAX_KEYS,
    KeysNotRead,
    parse_key_set,
)
from tests.fuzz.refusals import assert_holds_no_input

ENDS: Final = frozenset(
    {
        "keys",
        "not_utf8",
        "not_json",
        "too_deep",
        "not_an_object",
        "not_a_key_set",
        "too_many_keys",
        "kid_repeated",
        "no_usable_key",
    }
)


def try_one(data: bytes) -> str:
    """Read it."""
    try:
        keys = parse_key_set(data)
    except KeysNotRead as error:
        assert_holds_no_input(error)
        return error.kind
    assert 0 < len(keys) <= MAX_KEYS
    for kid, key in keys.items():
        assert 0 < len(kid) <= MAX_KEY_ID_CHARACTERS
        assert key.algorithms
        assert key.algorithms <= ASYMMETRIC_ALGORITHMS
    return "keys"
