"""The audit trail in real files: modes, rotation, appending, kills, stdout."""

import asyncio
import json
import signal
import stat
import sys
from pathlib import Path

import pytest

from broker.adapters.audit import Durability, sink_at
from tests.integration.audit_trails import SECRET, opened, problems, record, remarks
from tests.processes import running


async def test_file_is_made_for_the_broker_alone(tmp_path: Path) -> None:
    """Who called for what is nobody else's business."""
    path = tmp_path / "audit.jsonl"
    async with opened(path) as trail:
        await trail.write(record())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_rotated_file_is_followed_by_a_new_one_and_the_chain_goes_on(tmp_path: Path) -> None:
    """By logrotate as it stands, with no signal and no copytruncate; under load, nothing is lost between the two."""
    path = tmp_path / "audit.jsonl"
    old = [tmp_path / f"audit.jsonl.{number}" for number in range(3)]
    async with opened(path) as trail:
        for name in old:
            calls = [asyncio.create_task(trail.write(record(number))) for number in range(50)]
            await calls[0]
            path.rename(name)
            await asyncio.gather(*calls)
            await trail.write(record())
    assert problems(*old, path) == []
    assert remarks(*old, path) == []
    assert problems(*old[:1], *old[2:], path)
    assert problems(*old[:2], path)


async def test_next_process_appends_behind_whatever_stands_there(tmp_path: Path) -> None:
    """Even behind a line that a power cut has torn."""
    path = tmp_path / "audit.jsonl"
    async with opened(path) as trail:
        await trail.write(record(1))
    with path.open("ab") as file:
        file.write(b'{"audit":1,"kind":"opened","chain":"0')
    async with opened(path) as trail:
        await trail.write(record(2))
    assert problems(path) == []
    assert remarks(path) == ["audit.jsonl:4: the line is torn; audit.jsonl:5 opens a new chain"]


async def test_records_may_wait_for_the_disk_itself(tmp_path: Path) -> None:
    """The setting `fsync`: a record outlives the machine."""
    path = tmp_path / "audit.jsonl"
    async with opened(sink_at(str(path), Durability.FSYNC)) as trail:
        await asyncio.gather(*(trail.write(record(number)) for number in range(20)))
        path.rename(tmp_path / "audit.jsonl.1")
        await trail.write(record(20))
    assert problems(tmp_path / "audit.jsonl.1", path) == []


@pytest.mark.parametrize("durability", Durability)
async def test_stdout_is_a_sink(
    durability: Durability, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Where a container's platform collects it; the broker's own log goes to stderr."""
    path = tmp_path / "collected.jsonl"
    async with opened(sink_at("-", durability)) as trail:
        await trail.write(record(7))
    printed = capfd.readouterr().out.splitlines(keepends=True)
    ours = [line for line in printed if line.startswith('{"audit":')]
    path.write_text("".join(ours))
    assert [json.loads(line)["kind"] for line in ours] == ["opened", "record", "closed"]
    assert problems(path) == []


WRITE_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from broker.adapters.audit import AuditKeys, AuditTrail, sink_at
from broker.domain.secret import Secret
from tests.unit.test_audit_chain import RECORD

async def main():
    trail = AuditTrail(AuditKeys(Secret(sys.argv[1])), [sink_at(sys.argv[2])])
    await trail.start()
    answered = 0
    while True:
        await asyncio.gather(*(trail.write(RECORD) for _ in range(100)))
        answered += 100
        print(answered, flush=True)

asyncio.run(main())
"""


async def test_kill_under_load_leaves_all_that_was_answered_and_a_trail_that_is_well(tmp_path: Path) -> None:
    """P7: what a caller was told is on record, and the cut end is told of."""
    path = tmp_path / "audit.jsonl"
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, SECRET.reveal(), str(path)]
    async with running(*command, cwd=Path(__file__).parents[2]) as process:
        await process.out.line("3000")
        process.signal(signal.SIGKILL)
        ended = await process.end()
    answered = int(ended.out.split()[-1])
    assert answered <= path.read_bytes().count(b'"kind":"record"')
    assert problems(path) == []
    assert any("has no end: its process was killed" in remark for remark in remarks(path))
