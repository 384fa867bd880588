"""What a broker logs can be read by a program, leads to traces, and stays small while a fault repeats."""

import asyncio
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc

from broker.telemetry.logs import REPEATS
from tests.acceptance.metered import Metered, metered
from tests.acceptance.traced import get_token
from tests.otlp.callers_trace import CallersTrace

LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical"})
# More than are written of one fault, and as many as are quickly made.
FAILING: Final = 3 * REPEATS
ENDED: Final = "refresh.attempt_ended"


async def _lines(broker: Metered) -> list[dict[str, Any]]:
    """Everything on stderr, once the process has ended: each line by itself one JSON object."""
    broker.replica.terminate()
    ended = await broker.replica.ended()
    assert ended.code == 0
    assert ended.out == ""
    return [json.loads(line) for line in ended.err.splitlines()]


async def _is_refused_a_token(broker: Metered, install_id: str) -> bool:
    return await broker.fails(install_id) is not grpc.StatusCode.OK


async def _has_span(broker: Metered, trace: CallersTrace, span_id: str) -> bool:
    """Whether the receiver has got the span that a line names."""
    return span_id in {span.context[1] for span in broker.received.of_trace(trace.trace_id)}


async def test_every_line_is_one_event_that_programs_read(database: str, temporary: Path) -> None:
    """A line that is not JSON is lost, or stops who collects them: also in a fault, and also a library's."""
    async with metered(database, temporary, LOG_LEVEL="debug") as broker:
        await broker.is_busy()
        async with broker.outage() as install_id:
            assert await broker.fails(install_id) is grpc.StatusCode.UNAVAILABLE
        lines = await _lines(broker)
    for line in lines:
        assert line["event"]
        assert line["level"] in LEVELS
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    assert {"broker.started", ENDED, "webhook.refused", "broker.stopped"} <= {line["event"] for line in lines}
    text = json.dumps(lines)
    assert [secret for secret in broker.secrets if secret in text] == []


async def test_a_line_leads_to_its_trace(database: str, temporary: Path) -> None:
    """From what went wrong to how it came to it. What belongs to no call names no trace."""
    trace = CallersTrace()
    async with metered(database, temporary) as broker:
        expired = await broker.installed(expired=True)
        await get_token(broker.replica, expired, trace)
        lines = await _lines(broker)
    (ended,) = [line for line in lines if line["event"] == ENDED and line["install_id"] == expired]
    assert ended["trace_id"] == trace.trace_id
    assert await _has_span(broker, trace, ended["span_id"])
    (started,) = [line for line in lines if line["event"] == "broker.started"]
    assert "trace_id" not in started


async def test_a_fault_of_many_installs_stays_a_few_lines(database: str, temporary: Path) -> None:
    """Envoy refuses every install at once: the first lines say so, and the disk and what else is wrong are spared."""
    async with metered(database, temporary) as broker:
        install_ids = [await broker.installed(expired=True) for _ in range(FAILING)]
        await broker.scene.envoy.behave(refuse="grant")
        refused = await asyncio.gather(*(_is_refused_a_token(broker, each) for each in install_ids))
        assert all(refused)
        page = await broker.page()
        assert page.total("tokenbroker_attempts_total", ending="invalid_grant") == FAILING
        lines = await _lines(broker)
    faults = [line for line in lines if line["level"] in {"warning", "error"}]
    # Twice: the first of them may have begun a window that ended on the way.
    assert REPEATS <= Counter(line["event"] for line in faults)[ENDED] <= 2 * REPEATS
    assert max(Counter(line["event"] for line in faults).values()) <= 2 * REPEATS
