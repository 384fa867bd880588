"""Brokers that ask who calls: their settings, what their callers show, and a count of what went on record."""

import json
import time
from datetime import timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt.algorithms import ECAlgorithm

from bench.tls import Door, Tls
from broker.config import PREFIX
from broker.sandbox.secured import SERVICE, secure

ISSUER, AUDIENCE, ALGORITHM, KEY_ID = "https://issuer.invalid", "token-broker", "ES256", "bench"
CALLER = f"spiffe://sandbox/{SERVICE}"  # whom the sandbox's policy gives the tokens
TOKEN_LIFETIME = timedelta(hours=2)  # longer than any run
JWKS_FILE = "jwks.json"
UNLIMITED_CALLS_PER_SECOND = "1000000"  # one caller is all the traffic here
HANDED_OUT = b'"outcome":"OK"'


def by_certificate(folder: Path) -> tuple[Door, dict[str, str]]:
    """Mutual TLS, the policy and the record: everything on. The settings have no prefix."""
    settings = {name.removeprefix(PREFIX).lower(): value for name, value in secure(folder).items()}
    settings |= {"insecure_serve_anybody": "false", "caller_calls_per_second": UNLIMITED_CALLS_PER_SECOND}
    return Door(Tls(folder, mutual=True)), settings


def by_bearer_token(folder: Path) -> tuple[Door, dict[str, str]]:
    """The same for the same caller, named by a JWT in place of a certificate."""
    _, settings = by_certificate(folder)
    del settings["tls_client_ca_file"]
    keys, token = _issue()
    (folder / JWKS_FILE).write_text(keys)
    settings |= {
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "jwt_algorithms": ALGORITHM,
        "jwt_keys": str(folder / JWKS_FILE),
    }
    return Door(Tls(folder, mutual=False), (("authorization", f"Bearer {token}"),)), settings


class Trail:
    """Counts the tokens that a broker's record tells of: what it handed out, by its own reckoning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._counted = 0

    async def count(self) -> int:
        """Since the record's beginning; only what is new is read."""
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            for line in file:
                self._counted += HANDED_OUT in line
            self._read_bytes = file.tell()
        return self._counted


def _issue() -> tuple[str, str]:
    """An issuer's key set, and a token of its."""
    key = generate_private_key(SECP256R1())
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": KEY_ID, "use": "sig"}
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": CALLER,
        "iat": now,
        "nbf": now,
        "exp": now + int(TOKEN_LIFETIME.total_seconds()),
    }
    return json.dumps({"keys": [public]}), jwt.encode(claims, key, ALGORITHM, {"kid": KEY_ID})
