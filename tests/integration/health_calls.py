"""grpc.health.v1, asked and watched; its published types know no asynchronous stub."""

from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

DEADLINE_SECONDS: Final = 30
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(channel: grpc.aio.Channel, service: str = "") -> Any:
    """What is said of one service, or of the whole."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    return (await stub.Check(request, timeout=DEADLINE_SECONDS)).status


async def becomes_serving(channel: grpc.aio.Channel, service: str = "") -> None:
    """Watch the service until it serves."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_SECONDS)
    while (await watch.read()).status != SERVING:
        pass
    watch.cancel()
