"""The audit trail's group commit: who waits for what, and what stands in the sink."""

import asyncio
import json
from dataclasses import replace

import pytest

from broker.adapters.audit.chain import MAX_RECORD_CHARACTERS
from broker.adapters.audit.trail import AuditTrail
from broker.domain.errors import AuditUnavailable
from broker.domain.secret import Secret
from tests.eventually import eventually
from tests.fakes.audit_sink import FakeSink
from tests.fakes.steps import settled
from tests.unit.open_trail import KEYS, LONG, SHORT, opened, problems, record, refusals, said, write_all
from tests.unit.test_audit_chain import RECORD


async def test_many_records_are_few_writes_and_stand_in_the_order_of_their_calls() -> None:
    """The hot path stays hot: a write each would cost more than all else that a call does."""
    sink = FakeSink()
    async with opened(sink) as trail:
        sink.hold()
        first = write_all(trail, range(100))
        await sink.reached()
        second = write_all(trail, range(100, 300))
        await settled()
        assert not any(task.done() for task in first + second)
        sink.let_go()
        await asyncio.gather(*first, *second)
        assert len(sink.writes) == 3
        assert said(sink) == ["opened", *map(str, range(300))]
    assert said(sink)[-1] == "closed"
    assert problems(sink) == []


async def test_calls_that_overlap_share_a_write_though_each_comes_in_its_own_turn() -> None:
    """Calls come one by one out of gRPC: without a wait for each other, every record would be a write."""
    sink = FakeSink()
    async with opened(sink, gathering=LONG) as trail:
        sink.hold()
        first = write_all(trail, [0])
        await sink.reached()
        second = write_all(trail, [1])
        await settled()
        sink.let_go()
        await asyncio.gather(*first)
        await settled()
        assert len(sink.writes) == 2
        await asyncio.gather(*second, *write_all(trail, [2]))
        assert len(sink.writes) == 3
    assert said(sink) == ["opened", "0", "1", "2", "closed"]


async def test_record_waits_for_others_that_do_not_come_for_a_moment_only() -> None:
    """The caller behind a crowd must not hang until the next one calls."""
    sink = FakeSink()
    async with opened(sink, gathering=SHORT) as trail:
        await asyncio.gather(*write_all(trail, range(5)))
        await trail.write(record(5))
        await trail.write(record(6))
    assert said(sink) == ["opened", *map(str, range(7)), "closed"]


async def test_write_returns_only_when_the_record_is_in_every_sink() -> None:
    """P7: what the second sink does not have yet is not on record."""
    one, other = FakeSink(), FakeSink()
    async with opened(one, other) as trail:
        other.hold()
        (call,) = write_all(trail, [1])
        await other.reached()
        assert said(one) == ["opened", "1"]
        assert not call.done()
        other.let_go()
        await call
    assert one.writes == other.writes


@pytest.mark.parametrize("stage", ["before the loop turns", "being written", "gathering"])
async def test_cancelled_write_neither_loses_nor_repeats_a_record(stage: str) -> None:
    """A caller that hangs up must not spoil the batch of others, whenever it does."""
    sink = FakeSink()
    async with opened(sink) as trail:
        sink.hold()
        calls = write_all(trail, [1, 2, 3])
        if stage == "gathering":
            await sink.reached()
            calls += write_all(trail, [4, 5, 6])
        victim = calls[-2]
        if stage == "being written":
            await sink.reached()
        await settled() if stage != "before the loop turns" else await asyncio.sleep(0)
        victim.cancel()
        sink.let_go()
        await asyncio.wait(calls)
        assert victim.cancelled()
        assert [task.cancelled() for task in calls].count(True) == 1
        assert refusals([task for task in calls if task is not victim]) == [False] * (len(calls) - 1)
    assert said(sink) == ["opened", *(str(number + 1) for number in range(len(calls))), "closed"]
    assert problems(sink) == []


async def test_more_records_than_may_wait_are_refused_at_once() -> None:
    """Memory is bounded, and those who do not fit can try elsewhere."""
    sink = FakeSink()
    async with opened(sink, max_waiting=3) as trail:
        sink.hold()
        calls = write_all(trail, [0])
        await sink.reached()
        calls += write_all(trail, [1, 2, 3])
        await settled()
        with pytest.raises(AuditUnavailable):
            await trail.write(record(4))
        sink.let_go()
        await asyncio.gather(*calls)
    assert said(sink) == ["opened", "0", "1", "2", "3", "closed"]


async def test_record_too_long_for_a_line_is_refused_and_harms_no_other() -> None:
    """A caller's name of a megabyte: verification would not take the line."""
    sink = FakeSink()
    async with opened(sink) as trail:
        with pytest.raises(AuditUnavailable):
            await trail.write(replace(RECORD, outcome="x" * MAX_RECORD_CHARACTERS))
        await trail.write(record(1))
    assert said(sink) == ["opened", "1", "closed"]


async def test_records_are_signed_soon_though_no_more_come() -> None:
    """What no signature covers could be forged: not for longer than the interval."""
    sink = FakeSink()
    async with opened(sink, checkpoint_interval=SHORT) as trail:
        await trail.write(record(1))
        await eventually(lambda: has_said(sink, "checkpoint"))
    assert said(sink) == ["opened", "1", "checkpoint", "closed"]
    assert problems(sink) == []


async def has_said(sink: FakeSink, kind: str) -> bool:
    """Whether a line of that kind stands there."""
    return kind in said(sink)


async def test_trail_that_is_not_open_refuses() -> None:
    """Fail closed, before the start and when stopping."""
    trail = AuditTrail(KEYS, [FakeSink()])
    with pytest.raises(AuditUnavailable):
        await trail.write(record(1))
    assert trail.problem == "the audit trail is not open"
    await trail.close()
    async with opened(FakeSink()) as closed:
        await closed.close()
        with pytest.raises(AuditUnavailable):
            await closed.write(record(1))
        assert closed.problem == "the audit trail is not open"


async def test_close_writes_what_has_gathered_and_lets_go() -> None:
    """Calls that drain get their answers."""
    sink = FakeSink()
    async with opened(sink) as trail:
        sink.hold()
        calls = write_all(trail, [1])
        await sink.reached()
        calls += write_all(trail, [2])
        await settled()
        closing = asyncio.create_task(trail.close())
        await settled()
        sink.let_go()
        await asyncio.gather(closing, *calls)
    assert said(sink) == ["opened", "1", "2", "closed"]
    assert await asyncio.to_thread(sink.is_closed.wait, 30)


async def test_token_is_not_in_the_trail_and_its_fingerprint_is() -> None:
    """P5, and what a reviewer searches for."""
    sink, token = FakeSink(), Secret("an-access-token-that-nobody-may-see")
    async with opened(sink) as trail:
        fingerprint = trail.fingerprint(token)
        await trail.write(replace(RECORD, token_fingerprint=fingerprint))
    assert json.loads(sink.lines[1])["token_fingerprint"] == fingerprint == KEYS.fingerprint(token)
    assert token.reveal().encode() not in b"".join(sink.writes)
