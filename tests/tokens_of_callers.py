"""Bearer tokens as an issuer would sign them, or as nobody should, and the issuer's key set."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.adapters.identity.bearer_tokens import BearerTokens
from broker.adapters.identity.jwks import KeysNotRead
from broker.adapters.identity.key_set import KeySet
from broker.adapters.identity.token_verification import TokenTerms
from broker.domain.secret import Secret
from tests.fakes.clock import NOON, FakeClock

ISSUER: Final = "https://kubernetes.default.svc"
AUDIENCE: Final = "token-broker"
SUBJECT: Final = "system:serviceaccount:visitors:badge-printer"
LIFETIME: Final = timedelta(hours=1)
RSA_KEY: Final = generate_rsa_key(65537, 2048)

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


def new_key(algorithm: str) -> PrivateKey:
    """A private key for the algorithm; for RSA always the same, since making one takes long."""
    if algorithm == "EdDSA":
        return Ed25519PrivateKey.generate()
    curves = {"ES256": SECP256R1(), "ES384": SECP384R1(), "ES512": SECP521R1()}
    return generate_private_key(curves[algorithm]) if algorithm in curves else RSA_KEY


def claims(**changes: object) -> dict[str, object]:
    """What a good token says at NOON, changed; None leaves a claim out."""
    noon = int(NOON.timestamp())
    good: dict[str, object] = {
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "sub": SUBJECT,
        "iat": noon,
        "nbf": noon,
        "exp": noon + int(LIFETIME.total_seconds()),
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


@dataclass(frozen=True)
class Signer:
    """One key of an issuer."""

    kid: str
    algorithm: str
    key: PrivateKey

    @classmethod
    def new(cls, algorithm: str = "ES256", kid: str = "key-1") -> "Signer":
        """A signer with a key for the algorithm."""
        return cls(kid, algorithm, new_key(algorithm))

    def token(self, **changes: object) -> Secret:
        """A good token, but for the changed claims."""
        return self.sign(claims(**changes))

    def sign(self, payload: Mapping[str, object], **header: object) -> Secret:
        """A token that says this; a header of None is left out."""
        headers = {"kid": self.kid} | header
        headers = {name: value for name, value in headers.items() if value is not None}
        return Secret(jwt.encode(dict(payload), self.key, self.algorithm, headers))

    def jwk(self, **changes: object) -> dict[str, object]:
        """The public key, as a key set has it."""
        public: Any = self.key.public_key()
        kinds: dict[type, Any] = {
            RSAPrivateKey: RSAAlgorithm,
            EllipticCurvePrivateKey: ECAlgorithm,
            Ed25519PrivateKey: OKPAlgorithm,
        }
        writer = next(writer for kind, writer in kinds.items() if isinstance(self.key, kind))
        described: dict[str, object] = writer.to_jwk(public, as_dict=True)
        described.pop("key_ops", None)
        return described | {"kid": self.kid, "use": "sig"} | changes


def key_set_of(*jwks: Mapping[str, object]) -> bytes:
    """The document of a key set."""
    return json.dumps({"keys": list(jwks)}).encode()


def segment(content: object) -> str:
    """A part of a token that says `content`."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class KeysAtHand:
    """A source that a test holds: says `document`, or fails while that is None, and counts."""

    def __init__(self, document: bytes | None) -> None:
        self.document = document
        self.reads = 0

    async def read(self) -> bytes:
        """The document."""
        self.reads += 1
        if self.document is None:
            raise KeysNotRead("made_up_failure")
        return self.document


def bearer_tokens(
    *signers: Signer, algorithms: frozenset[str] | None = None, clock: FakeClock | None = None
) -> BearerTokens:
    """A verifier that knows the signers' keys."""
    clock = clock or FakeClock()
    keys = KeySet(KeysAtHand(key_set_of(*(signer.jwk() for signer in signers))), clock)
    allowed = algorithms or frozenset(signer.algorithm for signer in signers)
    return BearerTokens(TokenTerms(ISSUER, AUDIENCE, allowed), keys, clock)
