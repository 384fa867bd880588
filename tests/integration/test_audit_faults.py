"""The audit trail over files, pipes and disks that fail as they do (F43): refused in time, and then well again."""

import asyncio
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.adapters.audit import AuditTrail, Durability, sink_at
from broker.adapters.audit.sinks import DescriptorSink
from broker.domain.errors import AuditUnavailable
from tests.eventually import eventually
from tests.integration.audit_trails import opened, problems, record, remarks

ROOM_BYTES = 16_384
# Far more than any write takes that does not hang, and bounds of the trail's own are well below it.
IN_TIME_SECONDS = 10


async def refuses(trail: AuditTrail, problem: str) -> None:
    """A record is refused in time, and the operator is told why."""
    async with asyncio.timeout(IN_TIME_SECONDS):
        with pytest.raises(AuditUnavailable):
            await trail.write(record())
    assert trail.problem is not None
    assert problem in trail.problem


async def takes(trail: AuditTrail) -> None:
    """A record is written, and all is well."""
    async with asyncio.timeout(IN_TIME_SECONDS):
        await trail.write(record())
    assert trail.problem is None


async def fill(trail: AuditTrail) -> None:
    """Write until the sink takes no more."""
    async with asyncio.timeout(IN_TIME_SECONDS):
        while trail.problem is None:
            calls = (trail.write(record(number)) for number in range(10))
            await asyncio.gather(*calls, return_exceptions=True)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe."""
    path = tmp_path / "audit.fifo"
    os.mkfifo(path)
    return path


@contextmanager
def reader(fifo: Path) -> Iterator[int]:
    """The reading end, which reads only what a test reads."""
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def drained(descriptor: int) -> bytes:
    """All that is in the pipe."""
    found = b""
    while True:
        try:
            part = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return found
        if not part:
            return found
        found += part


async def test_f43_fifo_without_a_reader_refuses_until_one_comes(fifo: Path, tmp_path: Path) -> None:
    """A log shipper that is not up yet, goes down, and comes up again."""
    read = tmp_path / "read.jsonl"
    async with opened(fifo) as trail:
        await refuses(trail, "No such device or address")
        with reader(fifo) as end:
            await takes(trail)
            read.write_bytes(drained(end))
        await refuses(trail, "Broken pipe")
        await refuses(trail, "No such device or address")
        with reader(fifo) as end:
            await takes(trail)
            read.write_bytes(read.read_bytes() + drained(end))
    assert problems(read) == []


async def test_fifo_takes_records_though_it_has_no_disk_to_wait_for(fifo: Path) -> None:
    """The setting `fsync` is for all sinks, and a pipe knows none."""
    with reader(fifo):
        async with opened(sink_at(str(fifo), Durability.FSYNC)) as trail:
            await takes(trail)


async def test_f43_fifo_that_nobody_empties_refuses_in_time_and_goes_on_when_somebody_does(
    fifo: Path, tmp_path: Path
) -> None:
    """The write hangs for good, and the event loop does not: all that waited is answered."""
    read = tmp_path / "read.jsonl"
    with reader(fifo) as end:
        async with opened(fifo) as trail:
            await fill(trail)
            await refuses(trail, "has not answered for 0.3 s")
            found = bytearray()

            async def is_well_once_emptied() -> bool:
                found.extend(drained(end))
                return trail.problem is None

            await eventually(is_well_once_emptied)
            await takes(trail)
        read.write_bytes(found + drained(end))
    assert problems(read) == []
    assert remarks(read) == []


async def test_f43_close_gives_a_pipe_up_that_nobody_empties(fifo: Path) -> None:
    """SIGTERM ends the process in its time, whatever the log shipper does."""
    with reader(fifo):
        async with asyncio.timeout(IN_TIME_SECONDS), opened(fifo) as trail:
            await fill(trail)


async def test_f43_full_device_refuses_and_the_next_one_takes(tmp_path: Path) -> None:
    """/dev/full answers as a full disk does that takes nothing at all."""
    path = tmp_path / "audit.jsonl"
    path.symlink_to("/dev/full")
    async with opened(path) as trail:
        await refuses(trail, "No space left on device")
        path.unlink()
        await takes(trail)
    assert problems(path) == []


async def test_f43_closed_pipe_refuses() -> None:
    """Stdout of a broker whose log collector has died."""
    read_end, write_end = os.pipe()
    async with opened(DescriptorSink("stdout", write_end)) as trail:
        await takes(trail)
        os.close(read_end)
        await refuses(trail, "stdout: Broken pipe")
        await refuses(trail, "stdout: Broken pipe")
    os.close(write_end)


async def test_f43_folder_that_is_not_there_refuses_until_it_is(tmp_path: Path) -> None:
    """A volume that is mounted late."""
    path = tmp_path / "late" / "audit.jsonl"
    async with opened(path) as trail:
        await refuses(trail, "No such file or directory")
        path.parent.mkdir()
        await takes(trail)
    assert problems(path) == []


@contextmanager
def small_file(path: Path, room: int) -> Iterator[None]:
    """While it lasts, no file of this process grows past `room`: writes are cut short there, and then fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == room


async def test_f43_line_torn_by_a_short_write_is_explained_by_the_next_chain(tmp_path: Path) -> None:
    """Whole lines of the batch and a piece of one stand there, and nobody was answered by them."""
    path = tmp_path / "audit.jsonl"
    async with opened(path) as trail:
        await takes(trail)
        with small_file(path, path.stat().st_size + 2_000):
            calls = [asyncio.create_task(trail.write(record(number))) for number in range(10)]
            await asyncio.wait(calls)
            assert all(isinstance(call.exception(), AuditUnavailable) for call in calls)
            await refuses(trail, "File too large")
        await takes(trail)
    assert problems(path) == []
    (torn,) = remarks(path)
    assert "the line is torn; audit.jsonl:" in torn
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:1] + whole[2:]))
    assert problems(path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one. Only root can mount it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM_BYTES}", "tmpfs", folder],  # noqa: S607
        check=False, capture_output=True,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"only root can mount a small disk: {mounted.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607


def remount(disk: Path, mode: str) -> None:
    """Let the disk be read-only (ro), or writable (rw)."""
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)  # noqa: S607


async def test_f43_full_disk_refuses_until_there_is_room(disk: Path) -> None:
    """Whoever makes room, by hand or by rotation, need not restart the broker."""
    path, ballast = disk / "audit.jsonl", disk / "ballast"
    async with opened(path) as trail:
        ballast.write_bytes(b"\0" * (ROOM_BYTES // 2))
        await fill(trail)
        await refuses(trail, "No space left on device")
        ballast.unlink()
        await takes(trail)
    assert problems(path) == []


async def test_f43_read_only_disk_refuses_until_it_is_writable(disk: Path) -> None:
    """The kernel makes a disk read-only when it has seen errors on it."""
    path = disk / "audit.jsonl"
    remount(disk, "ro")
    async with opened(path) as trail:
        await refuses(trail, "Read-only file system")
        remount(disk, "rw")
        await takes(trail)
    assert problems(path) == []
