"""The keys of the audit trail, all from one secret: one names tokens, the other signs.

Whoever verifies a trail needs the public key alone. The secret would let him forge one, and test which token
stands behind a fingerprint.
"""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker.domain.secret import Secret

KEY_BYTES: Final = 32
FINGERPRINT_BYTES: Final = 16
KEY_ID_CHARACTERS: Final = 16
# What each key is derived for: RFC 5869's `info`. Another purpose, or another format, is another key.
FINGERPRINT_PURPOSE: Final = b"envoy-token-broker audit v1: fingerprints of tokens"
SIGNING_PURPOSE: Final = b"envoy-token-broker audit v1: signatures of checkpoints"

_DIGEST: Final = "sha256"
_PUBLIC_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class AuditKeys:
    """The fingerprint key and the signing key.

    Attributes:
        public_key: what verifies the signatures, in hex.
        public_key_id: names it in a chain's first line.
    """

    def __init__(self, secret: Secret) -> None:
        """Raises ValueError if `secret` is not 32 bytes as base64url."""
        key = _key_bytes(secret)
        self._fingerprint_key = _derived(key, FINGERPRINT_PURPOSE)
        self._signing_key = Ed25519PrivateKey.from_private_bytes(_derived(key, SIGNING_PURPOSE))
        public = PublicKey(self._signing_key.public_key().public_bytes_raw())
        self.public_key = str(public)
        self.public_key_id = public.key_id

    def fingerprint(self, token: Secret) -> str:
        """HMAC-SHA-256 of the token, cut to 128 bits, in hex."""
        mac = hmac.digest(self._fingerprint_key, token.reveal().encode(), _DIGEST)
        return mac[:FINGERPRINT_BYTES].hex()

    def sign(self, message: bytes) -> str:
        """The Ed25519 signature (RFC 8032), in hex."""
        return self._signing_key.sign(message).hex()


class PublicKey:
    """Verifies signatures. Its text is its 32 bytes in hex."""

    def __init__(self, raw: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self._raw = raw

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `token-broker audit public-key` printed. Raises ValueError if it is none."""
        if not _PUBLIC_KEY.fullmatch(text):
            raise ValueError(
                "is no public key: 64 hex digits, as `token-broker audit public-key` prints them"
            )
        return cls(bytes.fromhex(text))

    @property
    def key_id(self) -> str:
        """The beginning of the key's SHA-256."""
        return hashlib.sha256(self._raw).hexdigest()[:KEY_ID_CHARACTERS]

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return self._raw.hex()


def generate_audit_key() -> Secret:
    """A new secret: 32 random bytes as base64url."""
    return Secret(_text_of(secrets.token_bytes(KEY_BYTES)))


def _key_bytes(secret: Secret) -> bytes:
    text = secret.reveal().rstrip("=")
    try:
        key = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except ValueError:
        key = b""
    # Base64 has several texts for the same bytes; a key that was mistyped at its end must not pass as another.
    if len(key) != KEY_BYTES or _text_of(key) != text:
        raise ValueError(
            "must be 32 random bytes as base64url; make one with `token-broker keys generate-audit`"
        )
    return key


def _text_of(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)
