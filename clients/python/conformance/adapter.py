"""The adapter of the Python client: commands from stdin, answers to stdout, as clients/conformance/README.md has them.

`--api async` drives AsyncClient, with httpx; `--api sync` drives Client, with requests, from a thread for each command.
Whoever cancels what a thread does for him is released at once, and the thread waits on: threads can't be cancelled.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from opentelemetry import context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from clients.python.conformance.apis import APIS, Opened
from tokenbroker.client import TokenBrokerError

Fields = dict[str, Any]
CANCELLED: Final[Fields] = {"cancelled": True}
_TRACE: Final = TraceContextTextMapPropagator()


class Adapter:
    """The clients that were opened, and the commands that are under way."""

    def __init__(self, open_client: Callable[[Fields], Opened]) -> None:
        self._open_client = open_client
        self._clients: dict[str, Opened] = {}
        self._running: dict[Any, asyncio.Task[None]] = {}
        self._commands: dict[str, Callable[[Fields], Awaitable[Fields]]] = {
            "open": self._open,
            "get": self._get,
            "cancel": self._cancel,
            "request": self._request,
            "describe": self._describe,
            "close": self._close,
        }

    async def serve(self) -> None:
        """Until stdin ends. What is under way then is given up."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            fields = json.loads(line)
            task = asyncio.create_task(self._answer(fields))
            self._running[fields["id"]] = task
            task.add_done_callback(partial(self._ended, fields["id"]))
        for task in self._running.values():
            task.cancel()
        for client in self._clients.values():
            await client.close()

    def _ended(self, command: object, _task: asyncio.Task[None]) -> None:
        del self._running[command]

    async def _answer(self, fields: Fields) -> None:
        try:
            answer = await self._commands[fields["do"]](fields)
        except TokenBrokerError as error:
            answer = {"error": _described(error)}
        except asyncio.CancelledError:
            answer = CANCELLED
        except Exception as error:  # noqa: BLE001 - whatever else it is, the runner is told
            sys.stderr.write(f"{fields}: {error!r}\n")
            answer = {"error": {"reason": "CONFIGURATION"}}
        sys.stdout.write(json.dumps({"id": fields["id"], **answer}) + "\n")
        sys.stdout.flush()

    async def _open(self, fields: Fields) -> Fields:
        self._clients[fields["client"]] = self._open_client(fields)
        return {}

    async def _get(self, fields: Fields) -> Fields:
        context.attach(_TRACE.extract({"traceparent": fields.get("traceparent", "")}))
        token = await self._clients[fields["client"]].token(fields["install"], fields.get("timeout_seconds"))
        return {"token": token.reveal(), "generation": token.generation, "company": token.company_id}

    async def _cancel(self, fields: Fields) -> Fields:
        self._running[fields["of"]].cancel()
        return {}

    async def _request(self, fields: Fields) -> Fields:
        status, body = await self._clients[fields["client"]].request(fields)
        return {"status": status, "body": body}

    async def _describe(self, fields: Fields) -> Fields:
        client = self._clients[fields["client"]]
        token = await client.token(fields["install"], None)
        return {"texts": [*_texts(token), *_texts(client.client), str(KeyError(token))]}

    async def _close(self, fields: Fields) -> Fields:
        await self._clients.pop(fields["client"]).close()
        return {}


def _described(error: TokenBrokerError) -> Fields:
    described = {"reason": error.reason.value, "code": error.code.name}
    return described if error.retry_after is None else {**described, "retry_after_seconds": error.retry_after}


def _texts(shown: object) -> list[str]:
    """Every way in which it turns into text."""
    return [
        str(shown),
        repr(shown),
        f"{shown}",
        json.dumps(shown, default=str),
        repr(getattr(shown, "__dict__", {})),
    ]


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", choices=sorted(APIS), required=True)
    await Adapter(APIS[parser.parse_args().api]).serve()


if __name__ == "__main__":
    asyncio.run(_main())
