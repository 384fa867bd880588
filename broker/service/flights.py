"""Join: one task for each key and process, however many callers wait for it."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Flights(Generic[Key, Result]):
    """Tasks under way by key. A task belongs to no caller: cancelling one leaves it running."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Result]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def start(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> asyncio.Task[Result]:
        """The task under way for `key`, or a new one that does `work`. Await it by `asyncio.shield`."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(work())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._land(key, done))
        return task

    async def join(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of the task for `key`. A cancelled caller leaves the task to the others."""
        return await asyncio.shield(self.start(key, work))

    async def landed(self) -> None:
        """Wait until every task under way has ended, however it ended."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    def _land(self, key: Key, task: asyncio.Task[Result]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen, though every waiter may have gone
