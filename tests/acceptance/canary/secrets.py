"""Every secret of the house."""

import base64
import json
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker import offline
from broker.domain.secret import Secret
from broker.sandbox.certificates import KEY_FILE
from broker.sandbox.secured import AUDIT_KEY_FILE
from broker.sandbox.simulated_envoy import SimulatedApp
from tests.acceptance.canary.marks import Mark

# With what JSON, URLs and headers escape near its beginning, so that each form differs.
CLIENT_SECRET: Final = 'canary-app+&=%/:"s client secret'
SIDE_FIELD: Final = "canary-side-token-of-a-webhook"
STRAY: Final = "canary-stray-token-of-a-caller"
VOUCHED: Final = "canary-vouched-access-token"
BEARER: Final = "canary-bearer-of-a-caller"
COLLECTOR: Final = "canary-otlp-collectors-key"
KEY_SERVER: Final = "canary-jwks-servers-bearer"
WRONG_PASSWORD: Final = "canary-wrong-database-password"
MISPLACED: Final = "canary-misplaced-in-a-setting"

APP: Final = SimulatedApp("4242", "client-1", Secret(CLIENT_SECRET))
KEYSET: Final = offline.keysets.generate_keyset().reveal()

# No secret: it must be found wherever somebody writes, or the search is blind there.
INSTALL_ID: Final = "no-secret-but-an-install-id"
KEY_BYTES: Final = 32

IN_THE_OPEN: Final = Mark.of("install id", INSTALL_ID)
OF_THE_APP: Final = Mark.of("client secret", CLIENT_SECRET)
SIDE_FIELDS: Final = Mark.of("webhook's side fields", SIDE_FIELD)
OF_THE_COLLECTOR: Final = Mark.of("collector's key", COLLECTOR)
OF_THE_KEY_SERVER: Final = Mark.of("key server's bearer token", KEY_SERVER)
ACCESS_TOKENS: Final = Mark.of("access tokens", "simulated-at-")
REFRESH_TOKENS: Final = Mark.of("refresh tokens", "simulated-rt-")
_CHOSEN: Final = (
    IN_THE_OPEN,
    OF_THE_APP,
    SIDE_FIELDS,
    OF_THE_COLLECTOR,
    OF_THE_KEY_SERVER,
    ACCESS_TOKENS,
    REFRESH_TOKENS,
    Mark.of("stray tokens", STRAY),
    Mark.of("vouched token", VOUCHED),
    Mark.of("callers' bearer tokens", BEARER),
    Mark.of("wrong password", WRONG_PASSWORD),
    Mark.of("misplaced secrets", MISPLACED),
)


def marks_of(folder: Path, database_password: str) -> list[Mark]:
    """All marks, of the keys in the secured `folder` too."""
    audit_key = (folder / AUDIT_KEY_FILE).read_text().strip()
    sealing_key = json.loads(KEYSET)["key"][0]["keyData"]["value"]
    pem = (folder / "broker" / KEY_FILE).read_bytes()
    tls_key = load_pem_private_key(pem, password=None)
    assert isinstance(tls_key, EllipticCurvePrivateKey)
    return [
        *_CHOSEN,
        Mark.of("database password", database_password),
        Mark.of("audit key", audit_key),
        Mark("audit key's bytes", base64.urlsafe_b64decode(audit_key + "=" * (-len(audit_key) % 4))),
        Mark.of("sealing key", sealing_key),
        # A serialized message: its last field is the key.
        Mark("sealing key's bytes", base64.b64decode(sealing_key)[-KEY_BYTES:]),
        # The first line of Base64 says only what kind of key it is.
        Mark("private key", pem.splitlines()[2]),
        Mark("private key's number", tls_key.private_numbers().private_value.to_bytes(KEY_BYTES)),
    ]
