"""F45: floods against a real broker, which lives, stays small, and serves the others.

They come from a caller with a good certificate, the worst that mutual TLS lets in, or from one who needs none to do
harm. What is asserted is generous, for machines that are busy; what was measured is reported with the test.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio

from broker.api import server as grpc_server
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.web import connections as web_connections
from tests.acceptance.flooded import Flooded, Witnessed, flooded
from tests.databases import new_database
from tests.floods import kinds
from tests.integration.served_broker import CALL_SECONDS, INSTALL_ID
from tests.integration.served_envoy import served_envoy

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB: Final = 1024
MIB: Final = 1024 * KIB
MAX_P99_SECONDS: Final = 5.0
MAX_GROWTH_MIB: Final = 256
# What the broker may grow by for reasons of its own.
SPARE_MIB: Final = 64
# gRPC reads ahead of what it has parsed. That levels off.
MAX_READ_AHEAD_MIB: Final = 768
# Descriptors of connections that are just being taken or cut.
PASSING: Final = 64
ENHANCE_YOUR_CALM: Final = "goaway 11"  # RFC 9113 7
# A connection may say nothing for HANDSHAKE; on a busy machine it takes a while to cut thousands.
SILENCE_SECONDS: Final = grpc_server.HANDSHAKE.total_seconds() + 20
DRIP_SECONDS: Final = web_connections.REQUEST_TIME.total_seconds() + 1

Report = Callable[[str, object], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Flooded]:
    """One for all floods: what a flood leaves behind, the next one finds."""
    folder: Path = tmp_path_factory.mktemp("secured")
    with new_database(postgres, migrated_template) as database:
        async with served_envoy() as envoy, flooded(envoy, database, folder) as running:
            yield running


def _others_are_served(witnessed: Witnessed, report: Report, max_growth_mib: float = MAX_GROWTH_MIB) -> None:
    """The broker has stayed small, and each call of the well-behaved caller was answered in time."""
    for name, value in witnessed.report.items():
        report(name, value)
    assert witnessed.grown_mib <= max_growth_mib
    assert witnessed.p99_seconds <= MAX_P99_SECONDS


async def test_f45_rapid_resets_grow_nothing_and_others_are_served(
    broker: Flooded, record_property: Report
) -> None:
    """Each call is taken back as soon as it is made, so that it never counts as one under way."""
    witnessed = await broker.flood("rapid_reset")
    assert witnessed.seen["sent"] > 10 * grpc_server.MAX_STREAMS
    _others_are_served(witnessed, record_property)


async def test_f45_pings_are_told_to_calm_down(broker: Flooded, record_property: Report) -> None:
    """Each would have to be answered."""
    witnessed = await broker.flood("pings")
    assert witnessed.seen[ENHANCE_YOUR_CALM] >= 1
    _others_are_served(witnessed, record_property)


async def test_f45_metadata_without_end_is_not_kept(broker: Flooded, record_property: Report) -> None:
    """The headers of a call are kept until they are whole; these never are."""
    witnessed = await broker.flood("endless_metadata")
    assert witnessed.seen["sent"] > 100 * MIB
    _others_are_served(witnessed, record_property, MAX_READ_AHEAD_MIB)


async def test_f45_oversized_metadata_is_refused_and_the_connection_goes_on(broker: Flooded) -> None:
    """Whatever is below the bound is let through, and what is above is not refused at random."""
    async with broker.another_caller() as caller:
        too_large = replace(caller, metadata=(("x-large", "x" * grpc_server.MAX_METADATA_BYTES),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await too_large.get_token(INSTALL_ID)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        large = replace(caller, metadata=(("x-large", "x" * (grpc_server.MAX_METADATA_BYTES - KIB)),))
        for _ in range(20):
            await large.get_token(INSTALL_ID)


async def test_f45_oversized_message_is_refused_and_the_connection_goes_on(broker: Flooded) -> None:
    """It is refused by the length that it announces."""
    async with broker.another_caller() as caller:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.get_token("1" * (64 * MIB))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await caller.get_token(INSTALL_ID)


async def test_f45_messages_that_never_end_cost_what_was_sent_of_them(
    broker: Flooded, record_property: Report
) -> None:
    """Kept until they are whole: the bounds on a message and on a connection's streams are all there is."""
    witnessed = await broker.flood("half_messages")
    sent_mib = witnessed.seen["uploaded bytes"] / MIB
    assert sent_mib > kinds.HALF_MESSAGES * kinds.HALF_MESSAGE_BYTES / MIB / 4
    _others_are_served(witnessed, record_property, 2 * sent_mib + SPARE_MIB)


async def test_f45_more_streams_than_a_connection_may_have_are_refused(
    broker: Flooded, record_property: Report
) -> None:
    """A client that keeps to the bound waits; one that does not is told."""
    witnessed = await broker.flood("streams_too_many")
    assert witnessed.seen["max streams"] == grpc_server.MAX_STREAMS
    assert witnessed.seen["resets"] >= kinds.STREAMS_TOO_MANY
    _others_are_served(witnessed, record_property)


async def test_f45_connections_that_say_nothing_are_bounded_and_cut(
    broker: Flooded, record_property: Report
) -> None:
    """Half-open TLS, with and without half a ClientHello. Whoever is connected already notices nothing of it."""
    before = broker.descriptors
    witnessed = await broker.flood("silent_connections", seconds=SILENCE_SECONDS)
    assert witnessed.seen["cut"] == kinds.SILENT_CONNECTIONS > grpc_server.MAX_CONNECTIONS
    assert witnessed.descriptors > grpc_server.MAX_CONNECTIONS / 2
    assert witnessed.descriptors < before + grpc_server.MAX_CONNECTIONS + PASSING
    _others_are_served(witnessed, record_property)
    async with broker.another_caller() as newcomer:
        await newcomer.get_token(INSTALL_ID)


async def test_f45_slow_http_headers_keep_neither_probes_nor_callers_waiting(
    broker: Flooded, record_property: Report
) -> None:
    """Slowloris at the port that Envoy's webhooks and the orchestrator's probes come to."""
    before, address = broker.descriptors, broker.broker.http_address
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=CALL_SECONDS) as http:

        async def ask() -> None:
            await broker.get_token()
            assert (await http.get("/readyz", headers={"connection": "close"})).status_code == httpx.codes.OK

        witnessed = await broker.flood("slow_headers", seconds=DRIP_SECONDS, address=address, ask=ask)
    assert witnessed.seen["cut"] > 0
    assert witnessed.descriptors > web_connections.MAX_CONNECTIONS / 2
    assert witnessed.descriptors < before + web_connections.MAX_CONNECTIONS + PASSING
    _others_are_served(witnessed, record_property)
