"""FakeSink: holds what an audit trail has written, and a test may hold it up or let it fail."""

import asyncio
import threading
from typing import Final

LIMIT_SECONDS: Final = 30


class FakeSink:
    """The Sink of the audit trail, in memory.

    Attributes:
        writes: what was written, a write each.
        error: what a write raises from now on, instead of writing.
        is_closed: whether it was let go of.
    """

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.writes: list[bytes] = []
        self.error: OSError | None = None
        self.is_closed = threading.Event()
        self._reached = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    @property
    def lines(self) -> list[bytes]:
        """Everything that was written, as lines with their newlines."""
        return b"".join(self.writes).splitlines(keepends=True)

    def hold(self) -> None:
        """Let writes wait from now on, as a disk that hangs."""
        self._reached.clear()
        self._may_go_on.clear()

    def let_go(self) -> None:
        """Let them go on."""
        self._may_go_on.set()

    async def reached(self) -> None:
        """Wait until a write waits."""
        if not await asyncio.to_thread(self._reached.wait, LIMIT_SECONDS):
            raise TimeoutError("nothing was written")

    def write(self, lines: bytes) -> None:
        """See Sink."""
        self._reached.set()
        if not self._may_go_on.wait(LIMIT_SECONDS):
            raise TimeoutError("no test has let go")
        if self.error is not None:
            raise self.error
        self.writes.append(lines)

    def close(self) -> None:
        """See Sink."""
        self.is_closed.set()
