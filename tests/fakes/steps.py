"""The points at which a fake lets other tasks run, and at which a test can stop it for good."""

import asyncio
from collections.abc import Callable, Generator
from typing import Final

# More than the longest way of a task through the fakes.
ENOUGH_TURNS: Final = 100


class _Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def turn() -> None:
    """Let every other task that is ready run once."""
    await _Turn()


async def settled() -> None:
    """Let every other task run until it waits for something that has not happened."""
    for _ in range(ENOUGH_TURNS):
        await turn()


class Steps:
    """Notes each step that the fakes take, in order, and parks the task that takes a chosen one.

    A test that cancels the parked task has killed a process at this point, with nothing cleaned up.
    """

    def __init__(self, park_at: int | None = None) -> None:
        """`park_at`: the number of the step at which to park, from 0."""
        self.taken: list[str] = []
        self.reached = asyncio.Event()
        self._park_at = park_at
        self._resumed = asyncio.Event()
        self._actions: dict[str, Callable[[], None]] = {}

    def resume(self) -> None:
        """Let the parked task go on: a process that was stopped, and not killed."""
        self._resumed.set()

    def at(self, step: str, action: Callable[[], None]) -> None:
        """Do `action` the next time that `step` is taken."""
        self._actions[step] = action

    async def __call__(self, step: str) -> None:
        """Take a step."""
        number = len(self.taken)
        self.taken.append(step)
        if number == self._park_at:
            self.reached.set()
            await self._resumed.wait()
        action = self._actions.pop(step, None)
        if action is not None:
            action()
        await turn()
