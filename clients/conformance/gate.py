"""The gate: a gRPC proxy between a client and the broker, which counts, holds, refuses and cuts as a scenario says.

It knows the API's methods by name and passes bytes on; only what a scenario counts by or changes is parsed.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from clients.conformance.orders import DETAILS, PUSHBACK, Orders, Seen
from clients.conformance.watched_stream import WatchedStream
from tokenbroker.v1 import token_broker_pb2 as pb

SERVICE: Final = "tokenbroker.v1.TokenBroker"
WATCH: Final = "WatchTokens"
_REQUESTS: Final[dict[str, type[pb.GetTokenRequest | pb.ReportRejectedTokenRequest]]] = {
    "GetToken": pb.GetTokenRequest,
    "ReportRejectedToken": pb.ReportRejectedTokenRequest,
}
# What gRPC itself says for each connection, and the broker's channel says anew.
_OWN: Final = ("user-agent", "grpc-", "te", "content-type", ":")


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
        self._streams: set[WatchedStream] = set()

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
        for stream in self._streams:
            stream.cut()

    async def tell(self, event: pb.WatchTokensResponse) -> None:
        """Say this on every stream that is open."""
        for stream in list(self._streams):
            await stream.tell(event)

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
        stream = WatchedStream(self._orders)
        self._streams.add(stream)
        open_stream: Any = self._channel.stream_stream(f"/{SERVICE}/{WATCH}")
        try:
            async with aclosing(stream.events(requests, open_stream(metadata=_passed_on(context)))) as events:
                async for event in events:
                    yield event
        except grpc.aio.AioRpcError as error:
            await _abort_as(context, error)
        finally:
            self._streams.discard(stream)
        if stream.is_cut:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the gate")


def _passed_on(context: Any) -> Sequence[tuple[str, str | bytes]]:
    return [(key, value) for key, value in context.invocation_metadata() if not key.startswith(_OWN)]


async def _abort_as(context: Any, error: grpc.aio.AioRpcError) -> NoReturn:
    kept = [pair for pair in error.trailing_metadata() or () if pair[0] in {DETAILS, PUSHBACK}]
    await context.abort(error.code(), error.details() or "", tuple(kept))
    raise AssertionError("abort always raises")
