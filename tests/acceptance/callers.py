"""Callers who ask for tokens all the time, and check each that they get by the simulated Envoy's own records."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import httpx

from broker.api.errors import DETAILS_KEY
from broker.sandbox.simulated_envoy.tokens import fingerprint
from tests.acceptance.short_lived import ShortLived
from tests.integration.served_envoy import ServedEnvoy
from tokenbroker.v1 import token_broker_pb2

if TYPE_CHECKING:
    from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerAsyncStub

DEADLINE_SECONDS: Final = 5.0
MEAN_PAUSE_SECONDS: Final = 0.2
# What a broker may answer while all around it fails. CANCELLED is gRPC's own word for calls that cross a server's end.
TOLERATED: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)


@dataclass
class Heard:
    """What the callers got.

    Attributes:
        broken: what no fault excuses, one line each.
    """

    tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    reported: int = 0
    broken: list[str] = field(default_factory=list)


class Callers:
    """One or more for each install. `door` chooses where the next call goes."""

    def __init__(
        self,
        envoy: ServedEnvoy,
        installs: Sequence[ShortLived],
        door: Callable[[], "TokenBrokerAsyncStub"],
        dice: random.Random,
        *,
        of_each: int = 1,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._envoy = envoy
        self._installs = list(installs) * of_each
        self._door = door
        self._dice = dice
        self._deadline_seconds = deadline_seconds
        self._records: dict[str, dict[str, Any]] = {}

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Heard]:
        """They call as long as the block runs."""
        heard, over = Heard(), asyncio.Event()
        async with asyncio.TaskGroup() as callers:
            for install in self._installs:
                callers.create_task(self._call_until(over, install, heard))
            try:
                yield heard
            finally:
                over.set()

    async def _call_until(self, over: asyncio.Event, install: ShortLived, heard: Heard) -> None:
        while not over.is_set():
            await self._call(install, heard)
            await asyncio.sleep(self._dice.expovariate(1 / MEAN_PAUSE_SECONDS))

    async def _call(self, install: ShortLived, heard: Heard) -> None:
        stub, asked_at = self._door(), time.time()
        request = token_broker_pb2.GetTokenRequest(plugin_id=install.plugin_id, install_id=install.install_id)
        try:
            reply = await stub.GetToken(request, timeout=self._deadline_seconds)
        except grpc.aio.AioRpcError as error:
            heard.failures[_told(error)] += 1
            if error.code() not in TOLERATED:
                heard.broken.append(f"{install.install_id}: {_told(error)}")
            return
        heard.tokens += 1
        heard.broken += await self._wrong(install, reply, asked_at)
        if install.mints_invalidate and (await self._record(reply))["why_dead"]:
            await self._report(stub, install, reply.generation, heard)

    async def _wrong(
        self, install: ShortLived, reply: token_broker_pb2.GetTokenResponse, asked_at: float
    ) -> list[str]:
        """What is wrong with a token. It must have lived when it was asked for: later is a race that nobody wins."""
        name = fingerprint(reply.access_token)
        record = self._records.get(name)
        if record is None:
            record = self._records[name] = await self._record(reply)
        if not record:
            return [f"{install.install_id}: a token that Envoy never issued"]
        family, wrong = record["family"], []
        if (family["plugin_id"], family["install_id"]) != (install.plugin_id, install.install_id):
            wrong.append(f"{install.install_id}: the token of {family['install_id']}")
        if family["revoked_because"] and not install.mints_invalidate:
            wrong.append(f"{install.install_id}: revoked: {family['revoked_because']}")
        if asked_at >= record["expires_at"]:
            late = asked_at - record["expires_at"]
            wrong.append(
                f"{install.install_id}: generation {reply.generation} had expired {late:.3f} s before"
            )
        if asked_at + reply.expires_in.ToTimedelta().total_seconds() > record["expires_at"]:
            wrong.append(f"{install.install_id}: is said to live longer than it does")
        return wrong

    async def _record(self, reply: token_broker_pb2.GetTokenResponse) -> dict[str, Any]:
        """What Envoy knows of the token now; {} if nothing."""
        answer = await self._envoy.http.get(f"/_simulator/tokens/{fingerprint(reply.access_token)}")
        record: dict[str, Any] = answer.json() if answer.status_code == httpx.codes.OK else {}
        return record

    async def _report(
        self, stub: "TokenBrokerAsyncStub", install: ShortLived, generation: int, heard: Heard
    ) -> None:
        """What a caller does who got 401 from Envoy."""
        heard.reported += 1
        request = token_broker_pb2.ReportRejectedTokenRequest(
            plugin_id=install.plugin_id, install_id=install.install_id, generation=generation
        )
        try:
            await stub.ReportRejectedToken(request, timeout=self._deadline_seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() not in TOLERATED:
                heard.broken.append(f"{install.install_id}: report: {error.code().name}")


def _told(error: grpc.aio.AioRpcError) -> str:
    """The status, and the broker's words if it is the broker's."""
    by_broker = any(name == DETAILS_KEY for name, _ in error.trailing_metadata())
    return f"{error.code().name}: {error.details() if by_broker else 'by gRPC itself'}"
