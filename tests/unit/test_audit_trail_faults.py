"""The audit trail when a sink hangs or fails: no answer leaves, nobody waits long, and the trail explains itself."""

import asyncio
import json
from datetime import timedelta

import pytest

from broker.adapters.audit.trail import AuditTrail
from broker.domain.errors import AuditUnavailable
from tests.eventually import eventually
from tests.fakes.audit_sink import FakeSink
from tests.unit.open_trail import (
    FULL,
    KEYS,
    SHORT,
    is_well,
    opened,
    problems,
    record,
    refusals,
    said,
    write_all,
)


async def test_f43_sink_that_hangs_refuses_in_time_and_at_once_from_then_on() -> None:
    """No token leaves; no caller waits for a disk that may never answer; and nothing heaps up in memory."""
    sink = FakeSink()
    async with opened(sink, patience=SHORT) as trail:
        sink.hold()
        written = write_all(trail, [1])
        await sink.reached()
        gathered = write_all(trail, [2])
        await asyncio.wait(written + gathered)
        assert refusals(written + gathered) == [True, True]
        with pytest.raises(AuditUnavailable) as refused:
            await trail.write(record(3))
        assert refused.value.retry_after > timedelta(0)
        assert trail.problem == "fake: has not answered for 0.05 s"
        sink.let_go()
        await eventually(lambda: is_well(trail))
        await trail.write(record(4))
    # The first was written late, though refused. The trail may say too much, never too little.
    assert said(sink) == ["opened", "1", "4", "closed"]
    assert problems(sink) == []


async def test_f43_failed_write_refuses_its_batch_and_the_next_begins_a_chain_that_says_why() -> None:
    """What the sink holds is uncertain then; a reviewer must be able to tell this from a hand."""
    sink = FakeSink()
    async with opened(sink) as trail:
        await trail.write(record(1))
        sink.error = FULL
        calls = write_all(trail, [2, 3])
        await asyncio.wait(calls)
        assert refusals(calls) == [True, True]
        assert trail.problem == "fake: No space left on device"
        sink.error = None
        await trail.write(record(4))
        assert await is_well(trail)
    assert said(sink) == ["opened", "1", "opened", "4", "closed"]
    first, last, second = (json.loads(line) for line in sink.lines[:3])
    assert second["chain"] != first["chain"]
    assert second["after"] == {
        "chain": first["chain"],
        "seq": last["seq"],
        "hash": last["hash"],
        "reason": "fake: No space left on device",
    }
    assert problems(sink) == []


async def test_f43_second_sink_that_fails_refuses_what_the_first_has() -> None:
    """Both trails stay such that verification explains them."""
    one, other = FakeSink("one"), FakeSink("other")
    async with opened(one, other) as trail:
        await trail.write(record(1))
        other.error = FULL
        for number in (2, 3):
            with pytest.raises(AuditUnavailable):
                await trail.write(record(number))
        assert trail.problem == "other: No space left on device"
        other.error = None
        await trail.write(record(4))
    assert said(one) == ["opened", "1", "2", "opened", "3", "opened", "4", "closed"]
    assert said(other) == ["opened", "1", "opened", "4", "closed"]
    assert (problems(one), problems(other)) == ([], [])


async def test_f43_sink_that_comes_back_is_noticed_without_a_call() -> None:
    """A replica that is not ready gets no calls that could find it out."""
    sink = FakeSink()
    sink.error = FULL
    async with opened(sink, retry_interval=SHORT) as trail:
        assert trail.problem == "fake: No space left on device"
        sink.error = None
        await eventually(lambda: is_well(trail))
    assert said(sink) == ["opened", "closed"]


async def test_f43_close_does_not_wait_for_a_sink_that_hangs() -> None:
    """Nor does the process: the thread is a daemon."""
    sink = FakeSink()
    trail = AuditTrail(KEYS, [sink], patience=SHORT)
    await trail.start()
    sink.hold()
    (call,) = write_all(trail, [1])
    await sink.reached()
    await trail.close()
    await asyncio.wait([call])
    assert refusals([call]) == [True]
    assert "closed" not in said(sink)
    sink.let_go()


def test_write_that_comes_back_after_the_loop_has_ended_is_nobodys_error() -> None:
    """A thread that fails then would print a traceback over the last lines of the log."""
    sink = FakeSink()

    async def leave_it_hanging() -> None:
        trail = AuditTrail(KEYS, [sink], patience=SHORT)
        await trail.start()
        sink.hold()
        await asyncio.wait(write_all(trail, [1]))
        await trail.close()

    asyncio.run(leave_it_hanging())
    sink.let_go()
    assert sink.is_closed.wait(30)
