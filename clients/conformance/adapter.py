"""An adapter: a client under test, as a program that takes commands and answers them, a JSON object a line."""

import asyncio
import itertools
import json
import os
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

START_SECONDS: Final = 30
STOP_SECONDS: Final = 10
KEPT_LINES: Final = 40
MAX_LINE_BYTES: Final = 1 << 20

Answer = dict[str, Any]


class AdapterGoneError(Exception):
    """The adapter has ended, or answers what is no answer."""


class Pending:
    """A command under way."""

    def __init__(self, command_id: int, answer: "asyncio.Future[Answer]") -> None:
        self.id = command_id
        self._answer = answer

    @property
    def is_answered(self) -> bool:
        """Whether the answer is there."""
        return self._answer.done()

    async def answer(self, within_seconds: float) -> Answer:
        """The answer.

        Raises:
            TimeoutError: none has come in time.
            AdapterGoneError.
        """
        async with asyncio.timeout(within_seconds):
            return await asyncio.shield(self._answer)


class Adapter:
    """The program, running. Attributes: said: its stderr, the last lines."""

    def __init__(self, process: Process) -> None:
        self.said: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = process
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._readers = [asyncio.create_task(self._read()), asyncio.create_task(self._overhear())]

    @classmethod
    async def started(cls, command: Sequence[str], folder: Path) -> "Adapter":
        """Start it, in `folder`. What its user's environment says of collectors and proxies is not for it."""
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "TOKEN_BROKER_")) and not name.lower().endswith("_proxy")
        }
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=folder, env=env, limit=MAX_LINE_BYTES
        )
        return cls(process)

    def send(self, do: str, **fields: Any) -> Pending:
        """Send a command."""
        command_id = next(self._ids)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[command_id] = answer
        command = {"id": command_id, "do": do} | {k: v for k, v in fields.items() if v is not None}
        if self._process.stdin is None or self._process.stdin.is_closing():
            raise AdapterGoneError("the adapter has ended")
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return Pending(command_id, answer)

    async def stop(self) -> None:
        """End it: its input ends. One that does not end by itself is killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            self.said.append("(it did not end when its input did, and was killed)")
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                answer = json.loads(line)
                waiting = self._pending.pop(answer.pop("id"), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.said.append(f"(what it wrote to stdout is no answer: {error})")
            self._process.kill()
        for waiting in self._pending.values():
            waiting.set_exception(AdapterGoneError("the adapter has ended"))
            waiting.exception()  # seen, whoever waits
        self._pending.clear()

    async def _overhear(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self.said.append(line.decode(errors="replace").rstrip())
