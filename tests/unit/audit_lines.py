"""Trails for the tests of verification, and what is found in them."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Self

from broker.adapters.audit.chain import NO_BREAK, Break, Chain, Origin
from broker.adapters.audit.keys import AuditKeys, PublicKey, generate_audit_key
from broker.adapters.audit.verify import Finding, Weight, verify_trail

NOON: Final = datetime(2026, 3, 14, 12, tzinfo=UTC)
KEYS: Final = AuditKeys(generate_audit_key())
FORGER: Final = AuditKeys(generate_audit_key())
PUBLIC: Final = PublicKey.parse(KEYS.public_key)


class Writer:
    """Writes chains as a broker does, a few records each."""

    def __init__(self, name: int, keys: AuditKeys = KEYS, after: Break = NO_BREAK) -> None:
        self.chain = Chain(f"{name:032x}", keys.sign)
        self.lines = self.split(
            self.chain.opened(NOON, Origin("a-host", name, "1.2.3", keys.public_key_id), after)
        )

    def record(self, count: int = 1) -> Self:
        """Write records, each another."""
        start = self.chain.seq
        self.lines += self.split(self.chain.records([f'"n":{start + n}' for n in range(count)], NOON))
        return self

    def checkpoint(self) -> Self:
        """Sign."""
        self.lines += self.split(self.chain.checkpoint(NOON))
        return self

    def close(self) -> Self:
        """End."""
        self.lines += self.split(self.chain.closed(NOON))
        return self

    def broken(self, reason: str = "No space left on device", *, lost: int = 0) -> Break:
        """What the next chain says of this one; `lost` lines were written and are not known to stand."""
        line = json.loads(self.lines[len(self.lines) - 1 - lost])
        return Break(self.chain.id, line["seq"], line["hash"], reason)

    @staticmethod
    def split(text: str) -> list[bytes]:
        """Lines, each with its newline."""
        return text.encode().splitlines(keepends=True)


def findings(
    *files: Sequence[bytes], keys: Sequence[PublicKey] = (PUBLIC,), interleaved: bool = False
) -> list[Finding]:
    """What is found in files of these lines, named 0, 1 and so on."""
    opened = [(str(number), io.BytesIO(b"".join(lines))) for number, lines in enumerate(files)]
    return list(verify_trail(opened, keys, interleaved=interleaved))


def said(weight: Weight, found: Sequence[Finding]) -> list[str]:
    """The findings of one weight, as the command prints them."""
    return [f"{finding.place}: {finding.text}" for finding in found if finding.weight is weight]


def problems(
    *files: Sequence[bytes], keys: Sequence[PublicKey] = (PUBLIC,), interleaved: bool = False
) -> list[str]:
    """The problems in files of these lines."""
    return said(Weight.PROBLEM, findings(*files, keys=keys, interleaved=interleaved))


def remarks(*files: Sequence[bytes]) -> list[str]:
    """The remarks on files of these lines."""
    return said(Weight.REMARK, findings(*files))
