"""An OTLP collector that keeps what it is sent, as the bytes that came."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

SERVICES: Final = (
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
)
# A response of either that says nothing.
NOTHING: Final = b""


@dataclass
class Collector:
    """Attributes: url: where it is reached. told: the metadata of calls. exports: each request."""

    url: str = ""
    told: list[bytes] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)

    async def export(self, request: bytes, context: Any) -> bytes:
        """Take spans or metrics."""
        self.told.append(repr(context.invocation_metadata()).encode())
        self.exports.append(request)
        return NOTHING


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Runs a collector."""
    collector, server = Collector(), grpc.aio.server()
    export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(collector.export)
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, {"Export": export}) for service in SERVICES)
    )
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(None)
