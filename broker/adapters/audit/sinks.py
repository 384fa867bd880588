"""Where the lines of an audit trail go, and the one thread that may wait for a disk or a reader."""

import contextlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

STDOUT: Final = "-"

_STDOUT_DESCRIPTOR: Final = 1
_NEWLINE: Final = b"\n"
_MODE: Final = 0o600
# O_NONBLOCK concerns the opening alone: a FIFO that nobody reads is then an error, and no wait.
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
_THREAD_NAME: Final = "audit-writer"

# Hears, in the writer's thread, how a write has ended: None, or what went wrong.
Landed = Callable[[str | None], object]


class Durability(StrEnum):
    """When a line counts as written: once the kernel has it, or once the disk says that it has."""

    FLUSH = "flush"
    FSYNC = "fsync"


class Sink(Protocol):
    """Takes lines, in one thread, which may wait for it."""

    @property
    def name(self) -> str:
        """As the operator has set it."""
        ...

    def write(self, lines: bytes) -> None:
        """Write all of `lines`, the first at the beginning of a line.

        Raises:
            OSError: some of it may stand there, the last line torn.
        """
        ...

    def close(self) -> None:
        """Let go of what is open. A later `write` opens again."""
        ...


def sink_at(place: str, durability: Durability = Durability.FLUSH) -> Sink:
    """The sink at a path, or stdout for "-"."""
    if place == STDOUT:
        return DescriptorSink("stdout", _STDOUT_DESCRIPTOR, durability)
    return FileSink(Path(place), durability)


class DescriptorSink:
    """The Sink that somebody else has opened, and closes."""

    def __init__(self, name: str, descriptor: int, durability: Durability = Durability.FLUSH) -> None:
        self.name = name
        self._descriptor = descriptor
        self._stream = _Stream(durability)

    def write(self, lines: bytes) -> None:
        self._stream.write(self._descriptor, lines)

    def close(self) -> None:
        pass


class FileSink:
    """The Sink at a path: a file, made if it is not there; a FIFO or a device will do too.

    It is opened again when the path names another file, after a rotation, and after a failure.
    """

    def __init__(self, path: Path, durability: Durability = Durability.FLUSH) -> None:
        self.name = str(path)
        self._path = path
        self._durability = durability
        self._stream = _Stream(durability)
        self._descriptor: int | None = None

    def write(self, lines: bytes) -> None:
        try:
            self._stream.write(self._opened(), lines)
        except OSError:
            # A failed fsync may have dropped what it was about, and succeeds the next time: start anew.
            self.close()
            raise

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _opened(self) -> int:
        if self._descriptor is not None:
            if self._is_in_place(self._descriptor):
                return self._descriptor
            self.close()
        self._descriptor = descriptor = os.open(self._path, _OPEN_FLAGS, _MODE)
        os.set_blocking(descriptor, True)
        if _is_regular(descriptor):
            self._stream.is_torn = _ends_torn(self._path)
            if self._durability is Durability.FSYNC:
                _fsync_folder(self._path.parent)
        return descriptor

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False


class _Stream:
    """Writes lines to a descriptor. Attributes: is_torn: whether what stands there does not end a line."""

    def __init__(self, durability: Durability) -> None:
        self.is_torn = False
        self._durability = durability

    def write(self, descriptor: int, lines: bytes) -> None:
        if self.is_torn:
            lines = _NEWLINE + lines
        written = 0
        try:
            while written < len(lines):
                written += os.write(descriptor, lines[written:] if written else lines)
        finally:
            if written:
                self.is_torn = not lines.endswith(_NEWLINE, 0, written)
        if self._durability is Durability.FSYNC and _is_regular(descriptor):
            os.fsync(descriptor)


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _ends_torn(path: Path) -> bool:
    """Whether somebody was killed in the middle of a line, as far as we may read what we append to."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != _NEWLINE
    except PermissionError:
        # An empty line harms nobody.
        return path.stat().st_size > 0


def _fsync_folder(folder: Path) -> None:
    """A new file is there after a power cut only if its name is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SinkThread:
    """Writes to all sinks in a thread of its own, one write after the other.

    The thread is a daemon: a write that never ends must not keep the process from ending.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._writes: queue.SimpleQueue[tuple[bytes, Landed] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)

    @property
    def names(self) -> str:
        """Of the sinks, for a person."""
        return ", ".join(sink.name for sink in self._sinks)

    def start(self) -> None:
        """Begin to take writes."""
        self._thread.start()

    def write(self, lines: bytes, landed: Landed) -> None:
        """Write `lines` to each sink, as long as none fails, and then call `landed`. Does not wait."""
        self._writes.put((lines, landed))

    def end(self) -> None:
        """Close the sinks behind the last write. Does not wait."""
        self._writes.put(None)

    def _run(self) -> None:
        while (write := self._writes.get()) is not None:
            lines, landed = write
            landed(self._write(lines))
        for sink in self._sinks:
            sink.close()

    def _write(self, lines: bytes) -> str | None:
        for sink in self._sinks:
            try:
                sink.write(lines)
            except OSError as error:
                return f"{sink.name}: {error.strerror or error}"
        return None
