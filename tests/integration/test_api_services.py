"""What stands around the API: health and reflection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from broker import offline
from tests.integration.health_calls import NOT_SERVING, SERVING, becomes_serving, health
from tests.integration.served_broker import CALL_SECONDS, ServedBroker, served_broker
from tests.integration.served_envoy import ServedEnvoy

SERVICES = ["tokenbroker.v1.Installs", "tokenbroker.v1.TokenBroker"]


async def reflected(broker: ServedBroker) -> list[str]:
    """The services that reflection lists."""
    channel: Any = broker.channel  # the published types know no asynchronous one
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def question() -> AsyncIterator[Any]:
        request: Any = reflection_pb2.ServerReflectionRequest  # its published type can't be called
        yield request(list_services="")

    answers = stub.ServerReflectionInfo(question(), timeout=CALL_SECONDS)
    return [service.name async for answer in answers for service in answer.list_services_response.service]


async def test_every_service_is_serving_once_the_broker_is_ready(broker: ServedBroker) -> None:
    """Load balancers ask for the whole ("") or for the service that they send to."""
    for service in ["", *SERVICES]:
        assert await health(broker.channel, service) == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await health(broker.channel, "tokenbroker.v1.Nobody")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_no_service_is_serving_until_the_schema_is_there(
    simulated_envoy: ServedEnvoy, empty_database: str
) -> None:
    """A watcher is told when it changes, without asking again."""
    async with served_broker(simulated_envoy, empty_database, ready=False) as broker:
        for service in ["", *SERVICES]:
            assert await health(broker.channel, service) == NOT_SERVING
        offline.migrate(empty_database)
        await asyncio.gather(*(becomes_serving(broker.channel, service) for service in ["", *SERVICES]))


async def test_reflection_lists_every_service(broker: ServedBroker) -> None:
    """Grpcurl needs no proto files."""
    services = await reflected(broker)
    assert sorted(services) == sorted(
        [*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
    )


async def test_reflection_can_be_turned_off(simulated_envoy: ServedEnvoy, database: str) -> None:
    """Some would rather not show their API to whoever can connect."""
    async with served_broker(simulated_envoy, database, REFLECTION="false") as broker:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await reflected(broker)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await health(broker.channel, "") == SERVING
