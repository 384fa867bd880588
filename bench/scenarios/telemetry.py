"""GetToken of a FRESH cached token with metrics, and with traces, against the same broker with neither."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from bench.broker import HOST, SERVE, Served, database, free_port, postgres, request, serving
from bench.load import Pace, write_messages
from bench.report import table
from bench.rounds import Contestant, Series, compete, ratio
from bench.run import Run
from bench.seeding import install_ids, seed

NAME = "telemetry"
SUMMARY = "GetToken FRESH with metrics and with traces, against the same with neither: calls per second"

OFF, METRICS = "off", "metrics"
SAMPLED, ALL_SAMPLED = "metrics, 1% of traces", "metrics, every trace"
RATIOS = {SAMPLED: "0.01", ALL_SAMPLED: "1"}
WARM_UP_SHARE = 0.2  # of the seconds measured, before each measurement


async def run(bench: Run) -> None:
    """All serve one database; those that are not asked are idle."""
    [install_id] = install_ids(1)
    async with AsyncExitStack() as stack:
        bench.progress("starting Postgres and four brokers")
        base = await database(await stack.enter_async_context(postgres(bench.cores.load)), "telemetry")
        await seed(base, 1, bench)
        collector = await stack.enter_async_context(_collector())
        brokers: dict[str, Served] = {}
        for name in (OFF, METRICS, SAMPLED, ALL_SAMPLED):
            settings = {} if name == OFF else {"operations_address": f"{HOST}:{free_port()}"}
            command = ("env", *_variables(name, collector), *SERVE)
            brokers[name] = await stack.enter_async_context(
                serving(base, core=bench.cores.server, command=command, **settings)
            )
        reply_bytes = await brokers[OFF].reply_bytes(install_id)
        messages = write_messages(bench.scratch / "telemetry.bin", [request(install_id).SerializeToString()])
        contestants = [broker.contestant(name, messages, reply_bytes) for name, broker in brokers.items()]
        _report(bench, await _rates(contestants, bench))


async def _rates(contestants: list[Contestant], bench: Run) -> dict[str, Series]:
    full = Pace(seconds=bench.seconds, warm_up_seconds=WARM_UP_SHARE * bench.seconds)
    bench.progress("a round to warm up, not counted")
    await compete(contestants, full, bench, rounds=1)
    return await compete(contestants, full, bench, rounds=bench.rounds)


def _variables(name: str, collector: str) -> list[str]:
    if name not in RATIOS:
        return []
    return [
        f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={collector}",
        "OTEL_TRACES_SAMPLER=parentbased_traceidratio",
        f"OTEL_TRACES_SAMPLER_ARG={RATIOS[name]}",
    ]


class _Sink(TraceServiceServicer):
    """Takes what it is sent, and forgets it."""

    async def Export(  # noqa: N802 (the RPC's name)
        self, request: ExportTraceServiceRequest, context: object
    ) -> ExportTraceServiceResponse:
        del request, context
        return ExportTraceServiceResponse()


@asynccontextmanager
async def _collector() -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(_Sink(), server)  # type: ignore[no-untyped-call]  # generated without types
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield f"http://{HOST}:{port}"
    finally:
        await server.stop(None)


def _report(bench: Run, series: dict[str, Series]) -> None:
    ratios = {name: ratio(its, series[OFF]) for name, its in series.items()}
    facts: dict[str, object] = {
        "ratios_to_off": {name: its.facts() for name, its in ratios.items()},
        "at_saturation": {name: its.facts() for name, its in series.items()},
    }
    rows = [
        (name, f"{its.rate():,.0f}", *its.latency_cells(), ratios[name].line())
        for name, its in series.items()
    ]
    bench.report.add(NAME, facts, table(("", "calls/s", "p50 ms", "p99 ms", "to off"), rows))
