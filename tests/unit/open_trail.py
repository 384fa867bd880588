"""An audit trail over fake sinks, and what stands in them."""

import asyncio
import errno
import io
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from broker.adapters.audit.keys import AuditKeys, PublicKey, generate_audit_key
from broker.adapters.audit.trail import AuditTrail
from broker.adapters.audit.verify import Weight, verify_trail
from broker.domain.audit import AuditRecord
from broker.domain.errors import AuditUnavailable
from broker.ports import AuditLog
from tests.fakes.audit_sink import FakeSink
from tests.unit.test_audit_chain import RECORD

KEYS: Final = AuditKeys(generate_audit_key())
LIMIT_SECONDS: Final = 10
SHORT: Final = timedelta(milliseconds=50)
LONG: Final = timedelta(minutes=10)
FULL: Final = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def record(number: int) -> AuditRecord:
    """One that a test can tell from others."""
    return replace(RECORD, request_id=str(number))


@asynccontextmanager
async def opened(*sinks: FakeSink, **bounds: Any) -> AsyncIterator[AuditTrail]:
    """A trail; nothing of it happens by time alone unless `bounds` say so."""
    known: dict[str, Any] = {"patience": LONG, "checkpoint_interval": LONG, "retry_interval": LONG}
    trail = AuditTrail(KEYS, sinks, **(known | bounds))
    await trail.start()
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            yield trail
    finally:
        for sink in sinks:
            sink.let_go()
        await trail.close()


def said(sink: FakeSink) -> list[str]:
    """The lines of a sink: the number of a record, or the kind of another line."""
    lines = [json.loads(line) for line in sink.lines]
    return [line.get("request_id", line["kind"]) for line in lines]


def problems(sink: FakeSink) -> list[str]:
    """What verification finds."""
    found = verify_trail([("", io.BytesIO(b"".join(sink.writes)))], [PublicKey.parse(KEYS.public_key)])
    return [finding.text for finding in found if finding.weight is Weight.PROBLEM]


def write_all(log: AuditLog, numbers: Sequence[int]) -> list[asyncio.Task[None]]:
    """A caller each."""
    return [asyncio.create_task(log.write(record(number))) for number in numbers]


def refusals(tasks: Sequence[asyncio.Task[None]]) -> list[bool]:
    """Which of the ended calls were refused."""
    return [isinstance(task.exception(), AuditUnavailable) for task in tasks]


async def is_well(trail: AuditTrail) -> bool:
    """Whether it has no problem."""
    return trail.problem is None
