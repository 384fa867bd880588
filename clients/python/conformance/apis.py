"""The two APIs of the Python client, as the adapter drives them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import httpx
import requests

from tokenbroker.client import AsyncClient, Client, Credentials, Token
from tokenbroker.client.httpx import AsyncInstallAuth
from tokenbroker.client.requests import InstallAuth

Fields = dict[str, Any]
# As many commands wait for a token at once.
MAX_THREADS: Final = 256
# Of a request to Envoy.
TIMEOUT_SECONDS: Final = 30.0

T = TypeVar("T")


class Opened(Protocol):
    """A client, whichever it is."""

    @property
    def client(self) -> object:
        """What it is."""

    async def token(self, install: str, timeout_seconds: float | None) -> Token:
        """A token."""

    async def request(self, fields: Fields) -> tuple[int, str]:
        """Status and body of what Envoy answers by the HTTP adapter."""

    async def close(self) -> None:
        """Close the client."""


class Tasks:
    """AsyncClient and httpx."""

    def __init__(self, fields: Fields) -> None:
        self.client = AsyncClient(fields["target"], credentials=_credentials(fields), **_options(fields))

    async def token(self, install: str, timeout_seconds: float | None) -> Token:
        """See Opened."""
        return await self.client.token(install, timeout=timeout_seconds)

    async def request(self, fields: Fields) -> tuple[int, str]:
        """See Opened."""
        auth = AsyncInstallAuth(self.client, fields["install"], origin=fields["origin"])
        body = fields.get("body", "").encode()
        async with httpx.AsyncClient(follow_redirects=True, timeout=TIMEOUT_SECONDS) as envoy:
            content = body if fields.get("replayable", True) else _streamed(body)
            answer = await envoy.request(fields["method"], fields["url"], content=content, auth=auth)
        return answer.status_code, answer.text

    async def close(self) -> None:
        """See Opened."""
        await self.client.close()


class Threads:
    """Client and requests."""

    def __init__(self, fields: Fields) -> None:
        self.client = Client(fields["target"], credentials=_credentials(fields), **_options(fields))
        self._threads = ThreadPoolExecutor(MAX_THREADS)

    async def token(self, install: str, timeout_seconds: float | None) -> Token:
        """See Opened."""
        return await self._in_thread(partial(self.client.token, install, timeout=timeout_seconds))

    async def request(self, fields: Fields) -> tuple[int, str]:
        """See Opened."""
        return await self._in_thread(partial(self._request, fields))

    async def close(self) -> None:
        """See Opened."""
        await self._in_thread(self.client.close)
        self._threads.shutdown(wait=False)

    def _request(self, fields: Fields) -> tuple[int, str]:
        auth = InstallAuth(self.client, fields["install"], origin=fields["origin"])
        body = fields.get("body", "").encode()
        content: bytes | Iterator[bytes] = body if fields.get("replayable", True) else iter([body])
        answer = requests.request(
            fields["method"], fields["url"], data=content, auth=auth, timeout=TIMEOUT_SECONDS
        )
        return answer.status_code, answer.text

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """As asyncio.to_thread, of more threads than its pool has: with the caller's context, and so his trace."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)


APIS: Final[dict[str, Callable[[Fields], Opened]]] = {"async": Tasks, "sync": Threads}

_OPTIONS: Final = {
    "plugin_id": "plugin_id",
    "timeout_seconds": "timeout",
    "max_age_seconds": "max_age",
    "max_installs": "max_installs",
    "watch": "watch",
}


_FILES: Final = ("ca_file", "certificate_file", "key_file", "token_file")


def _options(fields: Fields) -> Fields:
    return {option: fields[name] for name, option in _OPTIONS.items() if name in fields}


def _credentials(fields: Fields) -> Credentials:
    files = {name: Path(fields[name]) for name in _FILES if fields.get(name)}
    return Credentials(**files, is_insecure=fields.get("insecure", False))


async def _streamed(body: bytes) -> AsyncIterator[bytes]:
    yield body
