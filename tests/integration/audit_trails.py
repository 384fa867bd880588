"""Audit trails in real files, and what verification says of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from broker.adapters.audit import (
    AuditKeys,
    AuditTrail,
    Finding,
    PublicKey,
    Weight,
    generate_audit_key,
    sink_at,
    verify_trail,
)
from broker.adapters.audit.sinks import Sink
from broker.domain.audit import AuditRecord
from tests.unit.test_audit_chain import RECORD

SECRET: Final = generate_audit_key()
KEYS: Final = AuditKeys(SECRET)
PATIENCE: Final = timedelta(milliseconds=300)
LONG: Final = timedelta(minutes=10)


def record(number: int = 0) -> AuditRecord:
    """One that a test can tell from others."""
    return replace(RECORD, request_id=str(number))


@asynccontextmanager
async def opened(*sinks: Sink | Path, **bounds: Any) -> AsyncIterator[AuditTrail]:
    """A trail in these sinks or files; a failed sink is tried again only by the next record."""
    made = [sink_at(str(sink)) if isinstance(sink, Path) else sink for sink in sinks]
    trail = AuditTrail(KEYS, made, **({"patience": PATIENCE, "retry_interval": LONG} | bounds))
    await trail.start()
    try:
        yield trail
    finally:
        await trail.close()


def findings(files: Sequence[Path]) -> list[Finding]:
    """What verification says of the files, the oldest first."""
    with ExitStack() as stack:
        read = [(path.name, stack.enter_context(path.open("rb"))) for path in files]
        return list(verify_trail(read, [PublicKey.parse(KEYS.public_key)]))


def problems(*files: Path) -> list[str]:
    """The problems in the files."""
    return [f"{each.place}: {each.text}" for each in findings(files) if each.weight is Weight.PROBLEM]


def remarks(*files: Path) -> list[str]:
    """The remarks on the files."""
    return [f"{each.place}: {each.text}" for each in findings(files) if each.weight is Weight.REMARK]
