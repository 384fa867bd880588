"""Conditions of the real world that come true some time soon."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

LOOK_SECONDS: Final = 0.05
SOON_SECONDS: Final = 30


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = SOON_SECONDS) -> None:
    """Return when the condition holds, which is looked at again and again.

    Raises:
        TimeoutError: it took longer.
    """
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(LOOK_SECONDS)
