"""Audit trails, as a verifier reads them. The input's lines stand in a file behind a chain's first line.

A line of the input is taken as it is, or finished first, since a fuzzer finds no hash: behind `h `, it gets its hash,
as everybody could give it; behind `s `, the hash and a signature of the key's holder. `*` for `prev` is the hash
of the line before.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from typing import Final

from broker.adapters.audit.chain import Chain, Origin, parse_line
from broker.adapters.audit.keys import AuditKeys, PublicKey
from broker.adapters.audit.verify import MAX_PROBLEMS, Weight, verify_trail
from broker.domain.secret import Secret
from tests.fakes.clock import NOON

ENDS: Final = frozenset({"well", "remarks", "problems"})

# Always the same, and nobody's.
KEYS: Final = AuditKeys(Secret("A" * 43))
PUBLIC: Final = PublicKey.parse(KEYS.public_key)
FIRST_LINE: Final = Chain(f"{1:032x}", KEYS.sign).opened(
    NOON, Origin("a-host", 1, "1.2.3", KEYS.public_key_id)
)

# It stops behind a line that makes them too many; as many torn lines may be told with that one, and it has faults too.
MOST_PROBLEMS: Final = 2 * MAX_PROBLEMS + 10

_HASHED: Final = b"h "
_SIGNED: Final = b"s "
_HOLDS_ON: Final = b'"prev":"*"'
_OPENS: Final = b'"kind":"opened"'
_HASH: Final = re.compile(rb'"hash":"([0-9a-f]{64})"')


def try_one(data: bytes) -> str:
    """Verify the trail."""
    trail = FIRST_LINE.encode() + b"".join(_finished(data))
    found = list(verify_trail([("trail", io.BytesIO(trail))], [PUBLIC]))
    weights = [finding.weight for finding in found]
    assert weights.count(Weight.PROBLEM) <= MOST_PROBLEMS
    assert all(finding.text.isprintable() for finding in found)
    if Weight.PROBLEM in weights:
        return "problems"
    assert Weight.SUMMARY in weights
    return "remarks" if Weight.REMARK in weights else "well"


def _finished(data: bytes) -> Iterator[bytes]:
    last = FIRST_LINE.encode()
    for raw in data.splitlines(keepends=True):
        if not raw.startswith((_HASHED, _SIGNED)):
            yield raw
            continue
        body = raw.rstrip(b"\r\n")[len(_HASHED) :].replace(_HOLDS_ON, b'"prev":"%s"' % _hash_of(last))
        line = b'%s,"hash":"%s"' % (body, hashlib.sha256(body).hexdigest().encode())
        last = _signed(line) if raw.startswith(_SIGNED) and _OPENS not in body else line + b"}"
        yield last + b"\n"


def _hash_of(line: bytes) -> bytes:
    *_, last = _HASH.finditer(line)
    return last[1]


def _signed(line: bytes) -> bytes:
    """Signed as the key's holder would: a first line it makes itself, whose members are to be believed."""
    parsed = parse_line(b'%s,"signature":"%s"}' % (line, b"0" * 128))
    signature = KEYS.sign(parsed.signed_message).encode() if parsed else b""
    return b'%s,"signature":"%s"}' % (line, signature)
