"""Reads a JSON Web Key Set (RFC 7517) into keys that verify signatures, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.adapters.json_object import UnreadableJson, parse_json_object

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MAX_KEYS: Final = 64
MAX_KEY_ID_CHARACTERS: Final = 256
MIN_RSA_BITS: Final = 2048  # RFC 7518, section 3.3
MAX_RSA_BITS: Final = 8192  # what a larger one takes to verify, every caller could make us spend

_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVE_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_EDWARDS_ALGORITHMS: Final = frozenset({"EdDSA"})

ASYMMETRIC_ALGORITHMS: Final = _RSA_ALGORITHMS | frozenset(_CURVE_ALGORITHMS.values()) | _EDWARDS_ALGORITHMS

_READERS: Final = {
    "RSA": (RSAAlgorithm.from_jwk, ("kty", "n", "e")),
    "EC": (ECAlgorithm.from_jwk, ("kty", "crv", "x", "y")),
    "OKP": (OKPAlgorithm.from_jwk, ("kty", "crv", "x")),
}


class KeysNotRead(Exception):
    """No key set came. Attributes: kind: why, in one of a few lower-case words."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the algorithms (RFC 7518 names) that it may verify: those of its type, or the one it names."""

    public_key: PublicKey
    algorithms: frozenset[str]


def parse_key_set(document: bytes) -> Mapping[str, VerificationKey]:
    """The keys by their `kid`. Those without one, for another use or of another kind are left out.

    Raises:
        KeysNotRead: it is no key set, holds too many keys or no usable one, or says one `kid` twice: nobody can tell
            which of two keys a token means, so none of the set is believed.
    """
    keys: dict[str, VerificationKey] = {}
    for entry in _entries(document):
        kid, key = entry.get("kid"), _verification_key(entry)
        if key is None or not isinstance(kid, str) or not 0 < len(kid) <= MAX_KEY_ID_CHARACTERS:
            continue
        if kid in keys:
            raise KeysNotRead("kid_repeated")
        keys[kid] = key
    if not keys:
        raise KeysNotRead("no_usable_key")
    return keys


def _entries(document: bytes) -> list[dict[str, object]]:
    kind = "not_a_key_set"
    try:
        entries = parse_json_object(document).get("keys")
    except UnreadableJson as error:
        kind, entries = error.kind, None
    if not isinstance(entries, list):
        raise KeysNotRead(kind)
    if len(entries) > MAX_KEYS:
        raise KeysNotRead("too_many_keys")
    return [entry for entry in entries if isinstance(entry, dict)]


def _verification_key(entry: Mapping[str, object]) -> VerificationKey | None:
    if entry.get("use", "sig") != "sig" or not _may_verify(entry.get("key_ops")):
        return None
    public_key = _public_key(entry)
    algorithms = _algorithms_of(public_key)
    if "alg" in entry:
        algorithms &= {str(entry["alg"])}
    if public_key is None or not algorithms:
        return None
    return VerificationKey(public_key, algorithms)


def _may_verify(operations: object) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _public_key(entry: Mapping[str, object]) -> PublicKey | None:
    """The entry's public half: of a private key that somebody published the rest is not even read."""
    kind = entry.get("kty")
    if not isinstance(kind, str) or kind not in _READERS:
        return None
    read, names = _READERS[kind]
    try:
        key = read({name: entry[name] for name in names})
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, PublicKey) else None


def _algorithms_of(key: PublicKey | None) -> frozenset[str]:
    if isinstance(key, RSAPublicKey):
        return _RSA_ALGORITHMS if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS else frozenset()
    if isinstance(key, EllipticCurvePublicKey):
        return frozenset({_CURVE_ALGORITHMS[key.curve.name]} if key.curve.name in _CURVE_ALGORITHMS else ())
    return _EDWARDS_ALGORITHMS if isinstance(key, Ed25519PublicKey) else frozenset()
