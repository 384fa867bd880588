"""Every span and log-field name, and the set-up of logging and tracing.

Spans go to an OTLP collector when one of the standard OTEL_EXPORTER_OTLP_* variables names it; without
one the tracer does nothing and costs next to nothing.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog
from opentelemetry import metrics, trace

SERVICE_NAME: Final = "envoy-token-broker"

SPAN_REFRESH: Final = "tokenbroker.refresh"
SPAN_CLAIM: Final = "tokenbroker.claim"
SPAN_CALL: Final = "tokenbroker.call_envoy"
SPAN_KEEP: Final = "tokenbroker.keep"

PLUGIN_ID: Final = "tokenbroker.plugin_id"
INSTALL_ID: Final = "tokenbroker.install_id"
PURPOSE: Final = "tokenbroker.purpose"
GRANT: Final = "tokenbroker.grant"
ATTEMPT: Final = "tokenbroker.attempt"

# To the collector that was named, and not by way of whatever proxy a variable names.
COLLECTOR_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)
OTLP_ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

LogFormat = Literal["auto", "json", "console"]

ENDING: Final = "tokenbroker.ending"

tracer: Final = trace.get_tracer(SERVICE_NAME)
meter: Final = metrics.get_meter(SERVICE_NAME)

attempts: Final = meter.create_counter(
    "tokenbroker.attempts", description="Attempts to fetch a pair, by purpose and ending."
)
claim_collisions: Final = meter.create_counter(
    "tokenbroker.claim.collisions", description="Claims that the scheduler found held by another."
)
sweep_lag: Final = meter.create_histogram(
    "tokenbroker.sweep.lag", unit="s", description="How long the most overdue install has been due."
)


def attempt_ended(purpose: str, ending: str) -> None:
    """Count an attempt's end, and show it in the current span."""
    attempts.add(1, {PURPOSE: purpose, ENDING: ending})
    trace.get_current_span().set_attribute(ENDING, ending)


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Structured lines on stderr, for a person at a terminal or as JSON for a program."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    renderers: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    if not as_json:
        # Plain: the default formatter prints the locals of every frame, and some hold a revealed token.
        renderers = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # What they have to say we say ourselves, once and in our words.
    for chatty in ("httpx", "httpcore", "psycopg.pool", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def configure_tracing() -> bool:
    """Send spans by OTLP over gRPC, if the environment names a collector (OpenTelemetry SDK variables).

    Returns whether it does.
    """
    if not any(os.environ.get(name) for name in OTLP_ENDPOINT_VARIABLES):
        return False
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 (half a second of imports that most starts don't need)
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (likewise)
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (likewise)
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (likewise)

    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE_NAME}))
    exporter = OTLPSpanExporter(channel_options=COLLECTOR_OPTIONS)  # type: ignore[arg-type]  # says text; gRPC takes numbers
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return True


def _add_trace_id(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event
