"""The gate at which held requests wait: it makes "Envoy is slow" a matter of signals, not of sleeping."""

import asyncio
import contextlib

HOLD_LIMIT_SECONDS = 300
"""A forgotten request goes on after this long."""


class Gate:
    """Holds requests until they are released, all at once."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._waiting = 0

    async def pass_through(self, *, holding: bool) -> None:
        """Waits for the next release, if this request is to be held."""
        if not holding:
            return
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), HOLD_LIMIT_SECONDS)
        finally:
            self._waiting -= 1

    def release(self) -> int:
        """Lets go those who wait now, and nobody who comes later. Returns how many they were."""
        released = self._waiting
        self._opened.set()
        self._opened = asyncio.Event()
        return released
