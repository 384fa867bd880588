"""P10: replicas that are added and removed under load fail no call, and share it as long as they are there."""

import asyncio
import json
import random
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

import grpc.aio
import httpx
from prometheus_client import parser

from tests.acceptance.callers import Callers
from tests.acceptance.replicas import SETTINGS, Replica, replica
from tests.acceptance.scene import presented_wrongly
from tests.acceptance.service_config import SERVICE_CONFIG
from tests.acceptance.short_lived import (
    envoy_on_the_real_clock,
    install_all,
    short_lived,
    simulated_apps,
)
from tests.acceptance.test_replicas_rolling import SETTINGS as PATIENT
from tests.eventually import eventually
from tests.integration.served_broker import ANY_PORT, CALL_SECONDS, envoy_url, settings_for
from tokenbroker.v1 import token_broker_pb2_grpc

SEATS: Final = 5
INSTALLS: Final = 6
CALLERS_OF_EACH: Final = 15
# Below those that a system gives to who asks for any port: a seat that is empty for a while stays free.
PORTS: Final = range(20_000, 30_000)
# A client tries an address that did not answer this soon again, so that a new replica is found while the test looks.
OPTIONS: Final = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Seats:
    """Addresses that the client knows; at each there is a replica, or none."""

    def __init__(self, stack: AsyncExitStack, environ: Mapping[str, str]) -> None:
        self.addresses = [f"127.0.0.1:{port}" for port in _free_ports(SEATS)]
        self._stack = stack
        self._environ = environ
        self._taken: dict[int, Replica] = {}

    async def add(self, *seats: int) -> None:
        """Start a replica at each, all at once."""
        started = await asyncio.gather(*map(self._start, seats))
        self._taken.update(zip(seats, started, strict=True))

    async def remove(self, *seats: int) -> None:
        """Ask the replicas to end, all at once; each drains and ends well."""
        leaving = [self._taken.pop(seat) for seat in seats]
        for each in leaving:
            each.terminate()
        ended = await asyncio.gather(*(each.ended() for each in leaving))
        assert [each.code for each in ended] == [0] * len(seats)

    async def all_serve(self) -> None:
        """Return when each that is there has been sent calls since it came."""

        async def have_served() -> bool:
            return all(await asyncio.gather(*map(_has_served, self._taken.values())))

        await eventually(have_served)

    def any(self) -> Replica:
        """One of those that are there."""
        return next(iter(self._taken.values()))

    async def _start(self, seat: int) -> Replica:
        environ = {**self._environ, "TOKEN_BROKER_GRPC_ADDRESS": self.addresses[seat]}
        return await self._stack.enter_async_context(replica(environ, name=f"seat-{seat}"))


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            break
    return found


async def _has_served(of: Replica) -> bool:
    address = (await of.logged("operations.open"))["address"]
    async with httpx.AsyncClient(trust_env=False, timeout=CALL_SECONDS) as http:
        text = (await http.get(f"http://{address}/metrics")).text
    return any(
        sample.name == "tokenbroker_token_handed_out_total" and sample.value > 0
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    )


async def test_replicas_come_and_go_under_load_and_no_call_fails(database: str) -> None:
    """P10. An autoscaler adds and removes replicas at will: callers must not notice, and those that come must help."""
    apps = simulated_apps(1)
    installs, dice = short_lived(INSTALLS, apps), random.Random(0)  # noqa: S311  # pauses
    async with envoy_on_the_real_clock(apps) as envoy, AsyncExitStack() as stack:
        settings = SETTINGS | PATIENT | {"OPERATIONS_ADDRESS": ANY_PORT}
        seats = Seats(stack, settings_for(database, envoy_url(envoy), apps=apps, **settings))
        await seats.add(0, 1)
        await install_all(envoy, installs, seats.any())
        target = f"ipv4:{','.join(seats.addresses)}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=OPTIONS))
        stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
        callers = Callers(
            envoy, installs, lambda: stub, dice, of_each=CALLERS_OF_EACH, deadline_seconds=CALL_SECONDS
        )
        async with callers.calling() as heard:
            await seats.all_serve()
            await seats.add(2, 3, 4)
            await seats.all_serve()
            await seats.remove(0, 1, 2, 3)
            await seats.add(0, 1)
            await seats.all_serve()
        assert (heard.failures, heard.broken) == ({}, [])
        assert heard.tokens > INSTALLS * CALLERS_OF_EACH
        entries = await envoy.ledger()
        assert presented_wrongly(entries) == []
        # Nothing was lost on the way: after the first pairs, not one mint.
        assert [entry["grant_type"] for entry in entries].count("plugin_install") == INSTALLS
