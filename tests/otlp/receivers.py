"""The receivers: each speaks one of OTLP's two transports and keeps what it is sent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.integration.served_envoy import serving
from tests.otlp.received import Received

TRACE_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
METRICS_SERVICE: Final = "opentelemetry.proto.collector.metrics.v1.MetricsService"
PROTOBUF: Final = "application/x-protobuf"
# An Export…ServiceResponse that says nothing.
NOTHING: Final = b""

_Take = Callable[[bytes, object], Awaitable[None]]


@asynccontextmanager
async def receiving_by_grpc() -> AsyncIterator[Received]:
    """Runs a receiver of OTLP over gRPC."""
    received, server = Received(), grpc.aio.server()
    services = {TRACE_SERVICE: received.take_spans, METRICS_SERVICE: received.take_metrics}
    for service, take in services.items():
        export = {"Export": _exported_by_grpc(take)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, export),))
    received.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield received
    finally:
        await server.stop(None)


@asynccontextmanager
async def receiving_by_http() -> AsyncIterator[Received]:
    """Runs a receiver of OTLP over HTTP, in protobuf."""
    received = Received()
    paths = {"/v1/traces": received.take_spans, "/v1/metrics": received.take_metrics}
    routes = [Route(path, _exported_by_http(take), methods=["POST"]) for path, take in paths.items()]
    async with serving(uvicorn.Config(Starlette(routes=routes), log_config=None)) as port:
        received.url = f"http://127.0.0.1:{port}"
        yield received


def _exported_by_grpc(take: _Take) -> "grpc.RpcMethodHandler[bytes, bytes]":
    # As bytes: what is searched for secrets is what came, and not what was understood of it.
    async def export(request: bytes, context: Any) -> bytes:
        await take(request, context.invocation_metadata())
        return NOTHING

    return grpc.unary_unary_rpc_method_handler(export)


def _exported_by_http(take: _Take) -> Callable[[Request], Awaitable[Response]]:
    async def export(request: Request) -> Response:
        assert request.headers["content-type"] == PROTOBUF
        await take(await request.body(), request.headers.raw)
        return Response(NOTHING, media_type=PROTOBUF)

    return export
