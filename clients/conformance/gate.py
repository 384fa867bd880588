"""The gate: a gRPC proxy between a client and the broker, which counts, holds, refuses and cuts as a scenario says.

It knows the API's methods by name and passes bytes on; only what a scenario counts by or changes is parsed.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tokenbroker.v1 import token_broker_pb2 as pb

SERVICE: Final = "tokenbroker.v1.TokenBroker"
DETAILS: Final = "grpc-status-details-bin"
PUSHBACK: Final = "grpc-retry-pushback-ms"
WATCH: Final = "WatchTokens"
_REQUESTS: Final[dict[str, type[pb.GetTokenRequest | pb.ReportRejectedTokenRequest]]] = {
    "GetToken": pb.GetTokenRequest,
    "ReportRejectedToken": pb.ReportRejectedTokenRequest,
}
# What gRPC itself says for each connection, and the broker's channel says anew.
_OWN: Final = ("user-agent", "grpc-", "te", "content-type", ":")


@dataclass(frozen=True)
class Seen:
    """A call that came: one attempt of a client's. `peer`: the names of its certificate."""

    rpc: str
    install: str
    metadata: dict[str, str]
    peer: tuple[str, ...] = ()


@dataclass
class Refusal:
    """How calls of an RPC are refused, so long as `times` lasts; None: until it is taken back."""

    code: str
    reason: str | None = None
    domain: str = "tokenbroker.v1"
    retry_after_seconds: float | None = None
    pushback_ms: int | None = None
    times: int | None = None

    def trailers(self) -> list[tuple[str, str | bytes]]:
        """The trailing metadata, as the broker's."""
        found: list[tuple[str, str | bytes]] = []
        if self.reason is not None:
            status = status_pb2.Status(code=self.status.value[0], message="refused by the gate")
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain=self.domain))
            if self.retry_after_seconds is not None:
                delay = duration_pb2.Duration()
                delay.FromTimedelta(timedelta(seconds=self.retry_after_seconds))
                status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            found.append((DETAILS, status.SerializeToString()))
        if self.pushback_ms is not None:
            found.append((PUSHBACK, str(self.pushback_ms)))
        return found

    @property
    def status(self) -> grpc.StatusCode:
        """The code."""
        return grpc.StatusCode[self.code]


@dataclass
class Orders:
    """What a scenario has told the gates: one for all of a scenario's, which share what they have seen.

    Attributes:
        lifetime_seconds: the life that answers say is left; None: as the broker says.
        watched, unsubscribed: how often each install was subscribed to, and unsubscribed.
        waiting: how many calls are held, or their answers.
    """

    seen: list[Seen] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    lifetime_seconds: float | None = None
    watched: Counter[str] = field(default_factory=Counter)
    unsubscribed: Counter[str] = field(default_factory=Counter)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    held_answers: dict[str, asyncio.Event] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counter[str]:
        """How many calls of each RPC came."""
        return Counter(call.rpc for call in self.seen)

    def refusal_of(self, rpc: str) -> Refusal | None:
        """How this call is refused, if it is."""
        refusal = self.refusals.get(rpc)
        if refusal is None or refusal.times == 0:
            return None
        if refusal.times is not None:
            refusal.times -= 1
        return refusal

    async def wait(self, events: dict[str, asyncio.Event], rpc: str) -> None:
        """Until calls of that RPC are released, if they are held."""
        if rpc in events:
            self.waiting[rpc] += 1
            try:
                await events[rpc].wait()
            finally:
                self.waiting[rpc] -= 1

    def release(self, rpc: str) -> None:
        """Let calls and answers of that RPC go on, from now on."""
        for events in (self.held, self.held_answers):
            if rpc in events:
                events.pop(rpc).set()

    def release_all(self) -> None:
        """At a scenario's end nobody may be left waiting."""
        for rpc in [*self.held, *self.held_answers]:
            self.release(rpc)


class Gate(grpc.GenericRpcHandler):
    """One replica, as the client sees it. Attributes: counts: the calls that came to this one."""

    def __init__(
        self, broker: str, orders: Orders, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._channel = grpc.aio.insecure_channel(broker)
        self._orders = orders
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self._cuts: set[asyncio.Event] = set()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen; where it did before, if it did."""
        server = grpc.aio.server(handlers=None, options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self,))
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        for name in ("", SERVICE):
            await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        address = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            self._port = server.add_insecure_port(address)
        else:
            self._port = server.add_secure_port(address, self._credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """As a replica that is gone: connections are closed, nobody listens."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def close(self) -> None:
        """Stop, and leave the broker."""
        await self.stop()
        await self._channel.close()

    def cut_streams(self) -> None:
        """End every stream that is open, without a word."""
        for cut in self._cuts:
            cut.set()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """See grpc.GenericRpcHandler."""
        service, _, rpc = details.method.strip("/").rpartition("/")
        if service != SERVICE:
            return None
        if rpc == WATCH:
            return grpc.stream_stream_rpc_method_handler(self._watch)

        async def unary(request: bytes, context: Any) -> bytes:
            return await self._unary(rpc, request, context)

        return grpc.unary_unary_rpc_method_handler(unary)

    async def _unary(self, rpc: str, request: bytes, context: Any) -> bytes:
        kind = _REQUESTS.get(rpc)
        install = kind.FromString(request).install_id if kind is not None else ""
        await self._enter(rpc, install, context)
        await self._orders.wait(self._orders.held, rpc)
        ask: Any = self._channel.unary_unary(
            f"/{SERVICE}/{rpc}"
        )  # bytes in, bytes out: its types know messages only
        try:
            answer = await ask(request, metadata=_passed_on(context), timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await _abort_as(context, error)
        await self._orders.wait(self._orders.held_answers, rpc)
        return self._shortened(answer) if rpc == "GetToken" else answer

    async def _enter(self, rpc: str, install: str, context: Any) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        names = context.auth_context().get("x509_subject_alternative_name", ())
        self._orders.seen.append(Seen(rpc, install, metadata, tuple(name.decode() for name in names)))
        self.counts[rpc] += 1
        refusal = self._orders.refusal_of(rpc)
        if refusal is not None:
            await context.abort(refusal.status, "refused by the gate", tuple(refusal.trailers()))

    def _shortened(self, answer: bytes) -> bytes:
        left = self._orders.lifetime_seconds
        if left is None:
            return answer
        message = pb.GetTokenResponse.FromString(answer)
        message.expires_in.FromTimedelta(timedelta(seconds=left))
        return message.SerializeToString()

    async def _watch(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await self._enter(WATCH, "", context)
        open_stream: Any = self._channel.stream_stream(f"/{SERVICE}/{WATCH}")
        call = open_stream(metadata=_passed_on(context))
        sending = asyncio.create_task(self._send_on(requests, call))
        cut = asyncio.Event()
        self._cuts.add(cut)
        cutting = asyncio.create_task(cut.wait())
        reading: asyncio.Task[Any] = asyncio.create_task(call.read())
        try:
            while True:
                await asyncio.wait({reading, cutting}, return_when=asyncio.FIRST_COMPLETED)
                if cut.is_set():
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the gate")
                event = reading.result()
                if event is grpc.aio.EOF:
                    return
                yield event
                reading = asyncio.create_task(call.read())
        except grpc.aio.AioRpcError as error:
            await _abort_as(context, error)
        finally:
            self._cuts.discard(cut)
            for task in (sending, reading, cutting):
                task.cancel()
            call.cancel()

    async def _send_on(self, requests: AsyncIterator[bytes], call: Any) -> None:
        async for request in requests:
            asked = pb.WatchTokensRequest.FromString(request)
            if asked.WhichOneof("change") == "subscribe":
                self._orders.watched[asked.subscribe.install_id] += 1
            else:
                self._orders.unsubscribed[asked.unsubscribe.install_id] += 1
            await call.write(request)


def _passed_on(context: Any) -> Sequence[tuple[str, str | bytes]]:
    return [(key, value) for key, value in context.invocation_metadata() if not key.startswith(_OWN)]


async def _abort_as(context: Any, error: grpc.aio.AioRpcError) -> NoReturn:
    kept = [pair for pair in error.trailing_metadata() or () if pair[0] in {DETAILS, PUSHBACK}]
    await context.abort(error.code(), error.details() or "", tuple(kept))
    raise AssertionError("abort always raises")
