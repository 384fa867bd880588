"""Both clients under one face, so that a test says of both what holds of both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from tokenbroker.client import AsyncClient, Client, Token


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


class Asker(Protocol):
    """A client."""

    client: Any

    async def token(self, install: str, timeout: float | None = None) -> Token:  # noqa: ASYNC109 - as the client has it
        """Ask for a token."""

    async def reject(self, token: Token) -> None:
        """Report it."""

    async def close(self) -> None:
        """Close the client."""


class Tasks:
    """AsyncClient."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.client = AsyncClient(*arguments, **options)

    async def token(self, install: str, timeout: float | None = None) -> Token:  # noqa: ASYNC109 - as the client has it
        """See Asker."""
        return await self.client.token(install, timeout=timeout)

    async def reject(self, token: Token) -> None:
        """See Asker."""
        await self.client.reject(token)

    async def close(self) -> None:
        """See Asker."""
        await self.client.close()


class Threads:
    """Client, called from a thread for each call."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.client = Client(*arguments, **options)

    async def token(self, install: str, timeout: float | None = None) -> Token:  # noqa: ASYNC109 - as the client has it
        """See Asker."""
        return await asyncio.to_thread(self.client.token, install, timeout=timeout)

    async def reject(self, token: Token) -> None:
        """See Asker."""
        await asyncio.to_thread(self.client.reject, token)

    async def close(self) -> None:
        """See Asker."""
        await asyncio.to_thread(self.client.close)


KINDS: Final[dict[str, Callable[..., Asker]]] = {"threads": Threads, "tasks": Tasks}


@asynccontextmanager
async def opened(kind: str, *arguments: Any, **options: Any) -> AsyncIterator[Asker]:
    """A client, closed in the end."""
    asker = KINDS[kind](*arguments, **options)
    try:
        yield asker
    finally:
        await asker.close()
