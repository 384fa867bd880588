"""P10: a rolling restart under load fails no call."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from tests.acceptance.callers import Callers
from tests.acceptance.replicas import Replicas, replicas
from tests.acceptance.scene import presented_wrongly
from tests.acceptance.service_config import SERVICE_CONFIG
from tests.acceptance.short_lived import (
    envoy_on_the_real_clock,
    install_all,
    short_lived,
    simulated_apps,
)
from tests.integration.served_broker import CALL_SECONDS
from tokenbroker.v1 import token_broker_pb2_grpc

INSTALLS: Final = 10
CALLERS_OF_EACH: Final = 40
# Nothing here is killed or fails, so the defaults' patience with Envoy holds: five processes, of which one is always
# starting, and the simulated Envoy share few cores, and a call that waits for its core is not Envoy's fault.
SETTINGS: Final = {
    "SWEEP_SECONDS": "0.2",
    "CACHE_STALENESS_SECONDS": "1",
    "ENVOY_CALLS_PER_SECOND": "200",
    "LAME_DUCK_SECONDS": "1",
}


@asynccontextmanager
async def channel_to_all(cluster: Replicas) -> AsyncIterator[grpc.aio.Channel]:
    """One channel that spreads its calls over the replicas."""
    addresses = ",".join(replica.grpc_address for replica in cluster)
    options = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    async with grpc.aio.insecure_channel(f"ipv4:{addresses}", options=options) as channel:
        yield channel


async def test_rolling_restart_under_load_fails_no_call(database: str) -> None:
    """P10. Tokens live for seconds, so that replicas are asked to end amid refreshes; and each token is a live one."""
    apps = simulated_apps(1)
    installs, dice = short_lived(INSTALLS, apps), random.Random(0)  # noqa: S311  # pauses
    async with (
        envoy_on_the_real_clock(apps) as envoy,
        replicas(database, envoy, 5, apps, **SETTINGS) as cluster,
        channel_to_all(cluster) as channel,
    ):
        await install_all(envoy, installs, cluster[0])
        stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
        callers = Callers(
            envoy, installs, lambda: stub, dice, of_each=CALLERS_OF_EACH, deadline_seconds=CALL_SECONDS
        )
        async with callers.calling() as heard:
            for number in range(len(cluster)):
                cluster[number].terminate()
                assert (await cluster[number].ended()).code == 0
                await cluster.restart(number, same_address=True)
        assert (heard.failures, heard.broken) == ({}, [])
        assert heard.tokens > INSTALLS * CALLERS_OF_EACH
        entries = await envoy.ledger()
        assert presented_wrongly(entries) == []
        # Nothing was lost on the way: after the first pairs, not one mint.
        assert [entry["grant_type"] for entry in entries].count("plugin_install") == INSTALLS
