"""An event loop whose time is simulated: it never waits, but moves on to the next thing that is due."""

import asyncio
import selectors
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

EPOCH: Final = datetime(2026, 3, 14, 12, tzinfo=UTC)


class StuckError(Exception):
    """Everybody waits for something that nothing will bring."""


class _Selector(selectors.BaseSelector):
    """No file is ever ready; a wait moves the loop's time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Take note; the loop registers its own pipe."""
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._map[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Forget it."""
        return self._map.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing is ready; `timeout` has passed."""
        if timeout is None:
            raise StuckError
        self.now += max(timeout, 0.0)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """What was registered."""
        return self._map


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._selected = _Selector()
        super().__init__(self._selected)

    def time(self) -> float:
        """Simulated seconds since the start."""
        return self._selected.now


class SimulatedClock:
    """The Clock port on the running VirtualLoop; wrong by `offset`, as a host's clock may be."""

    def __init__(self, loop: asyncio.AbstractEventLoop, offset: timedelta = timedelta(0)) -> None:
        self._loop = loop
        self._offset = offset

    def now(self) -> datetime:
        """The broker's time, UTC."""
        return EPOCH + timedelta(seconds=self._loop.time()) + self._offset

    async def sleep(self, duration: timedelta) -> None:
        """Wait in simulated time."""
        await asyncio.sleep(duration.total_seconds())
