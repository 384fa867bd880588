"""Where telemetry goes and what of it, as the standard OTEL_* variables say; and what it may cost: nothing, a bounded end."""

import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from broker import __version__
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.telemetry import metrics
from tests.acceptance.traced import SERVED, TracedScene, get_token, sends_to, traced_scene
from tests.integration.scripted_server import Connection, scripted
from tests.otlp.callers_trace import NOT_SAMPLED, CallersTrace
from tests.otlp.received import Received
from tests.otlp.receivers import receiving_by_grpc, receiving_by_http
from tests.processes import token_broker

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS: Final = 20
# A token from memory takes a thousandth of it; a collector that is waited for takes ten times as much.
CALL_TAKES_AT_MOST_SECONDS: Final = 1.0
# The whole of it: what drains, and a last export that nobody takes.
END_TAKES_AT_MOST_SECONDS: Final = 8.0
NOBODY: Final = "http://127.0.0.1:1"
NOTHING: Final = frozenset[str]()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[TracedScene]:
    """A database and an Envoy; each test runs a replica of its own."""
    async with traced_scene(postgres, migrated_template, Received(), 0) as set_up:
        yield set_up


async def test_otlp_over_http_carries_spans_and_metrics(traced: TracedScene) -> None:
    """Many collectors are reached through a proxy that speaks no gRPC."""
    install_id, trace = await traced.scene.installed(), CallersTrace()
    async with (
        receiving_by_http() as received,
        traced.one_more(received, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf") as replica,
    ):
        await get_token(replica, install_id, trace)
        served = await received.span(SERVED, trace.trace_id)
        await received.all_metrics([metrics.CALL.name])
    assert served.parent == trace.context


async def test_operator_s_words_on_who_sends_go_before_the_broker_s(traced: TracedScene) -> None:
    """The name that dashboards know is the deployment's, and not ours."""
    install_id, trace = await traced.scene.installed(), CallersTrace()
    named = {
        "OTEL_SERVICE_NAME": "tokens-of-checkout",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging,service.instance.id=pod-1",
    }
    async with receiving_by_grpc() as received, traced.one_more(received, **named) as replica:
        await get_token(replica, install_id, trace)
        served = await received.span(SERVED, trace.trace_id)
    said = {name: served.resource.get(name) for name in ("service.name", "service.version")}
    assert said == {"service.name": "tokens-of-checkout", "service.version": __version__}
    assert served.resource["service.instance.id"] == "pod-1"
    assert served.resource["deployment.environment.name"] == "staging"


@pytest.mark.parametrize(
    ("variables", "sampled_by_whom", "metrics_come"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_off"}, NOTHING, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, NOTHING, True),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
            {"sampled"},
            True,
        ),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, {"sampled", "not sampled"}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, NOTHING, True),
        ({"OTEL_METRICS_EXPORTER": "none"}, {"sampled"}, False),
        ({"OTEL_SDK_DISABLED": "true"}, NOTHING, False),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
async def test_standard_variables_say_what_is_sent(
    traced: TracedScene, variables: dict[str, str], sampled_by_whom: set[str], *, metrics_come: bool
) -> None:
    """An operator knows these from every other service, and what a trace costs is decided there."""
    install_id = await traced.scene.installed()
    traces = {"sampled": CallersTrace(), "not sampled": CallersTrace(flags=NOT_SAMPLED)}
    async with receiving_by_grpc() as received, traced.one_more(received, **variables) as replica:
        for trace in traces.values():
            await get_token(replica, install_id, trace)
        replica.terminate()
        assert (await replica.ended()).code == 0  # By then all that is ever sent has been.
    came = {whose for whose, trace in traces.items() if received.of_trace(trace.trace_id)}
    assert came == sampled_by_whom
    assert (metrics.CALL.name in received.metrics) == metrics_come


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
async def test_unknown_protocol_is_refused_at_the_start(traced: TracedScene, variable: str) -> None:
    """A word mistyped must not be an hour of missing traces; and what was typed may be a secret."""
    environ = {**traced.environ, **sends_to(Received(NOBODY)), variable: "http/jason"}
    ended = await token_broker("serve", env=environ)
    assert (ended.code, ended.out) == (1, "")
    assert f"{variable} must be one of grpc, http/protobuf" in ended.err
    assert "jason" not in ended.err


async def _silence(connection: Connection) -> None:
    """Take whatever comes, and answer nothing."""
    while await connection.reader.read(4096):
        pass


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("is_there", [True, False], ids=["silent", "away"])
async def test_collector_that_fails_costs_callers_nothing_and_the_end_little(
    traced: TracedScene, protocol: str, *, is_there: bool
) -> None:
    """Whoever watches must not be able to stop what is watched, nor hold a pod until it is killed."""
    install_id = await traced.scene.installed()
    async with scripted(_silence) as silent:
        url = f"http://127.0.0.1:{silent.port}" if is_there else NOBODY
        async with traced.one_more(Received(url), OTEL_EXPORTER_OTLP_PROTOCOL=protocol) as replica:
            if is_there:
                await silent.arrived.wait()
            for _ in range(CALLS):
                began = time.monotonic()
                await get_token(replica, install_id, CallersTrace())
                assert time.monotonic() - began < CALL_TAKES_AT_MOST_SECONDS
            replica.terminate()
            began = time.monotonic()
            assert (await replica.ended()).code == 0
            assert time.monotonic() - began < END_TAKES_AT_MOST_SECONDS
