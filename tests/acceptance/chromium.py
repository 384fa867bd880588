"""A headless Chromium, driven by its DevTools protocol over a pair of pipes (`--remote-debugging-pipe`).

https://chromedevtools.github.io/devtools-protocol/ names the methods. Each message is JSON, and a NUL ends it.
"""

import asyncio
import base64
import fcntl
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

SECONDS: Final = 60
# Where the browser reads and writes, by its own convention.
_ITS_READ, _ITS_WRITE = 3, 4
# Above those, so that neither pipe is overwritten when they are put there.
_FREE: Final = 10
_END: Final = b"\0"
_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
_OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


class Page:
    """A page of the browser."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reading: asyncio.BaseTransport
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._reading = reading
        self._numbers = itertools.count(1)
        self.session = ""

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to one method."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self._writer.write(json.dumps(message).encode() + _END)
        await self._writer.drain()
        while True:
            told = await self._told()
            if told.get("id") == number:
                assert "error" not in told, told
                answer: dict[str, Any] = told["result"]
                return answer

    async def go(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        await self.ask("Page.navigate", url=url)
        await self._until_loaded()

    async def evaluate(self, expression: str) -> Any:
        """What JavaScript says; ours, which the page's own policy does not concern."""
        result = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def press(self, key: str, *, leads_on: bool = False) -> None:
        """A key. `leads_on`: to another page, which is waited for."""
        text = {"Enter": "\r"}.get(key)
        codes = {"Tab": 9, "Enter": 13}
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": text} if text else {}))
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **fields)
        if leads_on:
            await self._until_loaded()

    async def type(self, text: str) -> None:
        """Text, where the focus is."""
        await self.ask("Input.insertText", text=text)

    async def look(self, width: int, height: int, *, scheme: str = "light") -> None:
        """Be a screen of that size, of somebody who likes it dark or light."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.ask(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def picture(self, path: Path) -> None:
        """A screenshot, as PNG."""
        shot = await self.ask("Page.captureScreenshot", format="png")
        _keep(path, base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Leave no pipe open."""
        self._reading.close()
        self._writer.close()

    async def _until_loaded(self) -> None:
        while (await self._told()).get("method") != "Page.loadEventFired":
            pass

    async def _told(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            message = await self._reader.readuntil(_END)
        told: dict[str, Any] = json.loads(message[:-1])
        return told


@asynccontextmanager
async def chromium_page(program: Path, folder: Path) -> AsyncIterator[Page]:
    """A page of a browser of its own, which keeps what it keeps in `folder`."""
    process, our_read, our_write = _started(program, folder)
    page = await _page(our_read, our_write)
    try:
        await _attach(page)
        yield page
    finally:
        page.session = ""
        await page.ask("Browser.close")
        await asyncio.to_thread(os.waitpid, process, 0)
        page.close()


def _started(program: Path, folder: Path) -> tuple[int, int, int]:
    """The browser's process, and our ends of its pipes: to read from, and to write to."""
    its_read, our_write = (_moved(end) for end in os.pipe())
    our_read, its_write = (_moved(end) for end in os.pipe())
    process = os.posix_spawn(
        program,
        [str(program), *_OPTIONS, f"--user-data-dir={folder}", "about:blank"],
        {**os.environ, "HOME": str(folder)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, its_read, _ITS_READ),
            (os.POSIX_SPAWN_DUP2, its_write, _ITS_WRITE),
        ],
    )
    os.close(its_read)
    os.close(its_write)
    return process, our_read, our_write


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


async def _page(our_read: int, our_write: int) -> Page:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_MAX_MESSAGE_BYTES)
    reading, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(our_read, "rb", buffering=0)
    )
    writing, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(our_write, "wb", buffering=0)
    )
    return Page(reader, asyncio.StreamWriter(writing, protocol, None, loop), reading)


async def _attach(page: Page) -> None:
    targets = (await page.ask("Target.getTargets"))["targetInfos"]
    target = next(each["targetId"] for each in targets if each["type"] == "page")
    page.session = (await page.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    await page.ask("Page.enable")


def _moved(end: int) -> int:
    """The same end of a pipe by a higher number, which no child inherits."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FREE)
    os.close(end)
    return moved
