"""Who is sent spans and metrics: an OTLP collector that the standard OTEL_* variables name, and who asks for /metrics.

Without either nothing is set up: half a second of imports that most starts don't need.
"""

import os
import time
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from opentelemetry import metrics, trace

from broker import __version__
from broker.telemetry.spans import SERVICE_NAME

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource

# To the collector that was named, and not by way of whatever proxy a variable names.
COLLECTOR_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
LAST_EXPORT: Final = timedelta(seconds=3)
PROTOCOLS: Final = ("grpc", "http/protobuf")


class UnknownProtocol(ValueError):
    """An OTEL_EXPORTER_OTLP_*PROTOCOL that is neither of those that there are."""


class Telemetry:
    """What is sent or can be asked for. Attributes: traced, measured: whether spans, and metrics, are made at all."""

    def __init__(self, *, scraped: bool) -> None:
        """Sets the process up, once. `scraped`: somebody may ask for /metrics.

        Raises:
            UnknownProtocol.
        """
        sends_metrics = _is_sent("METRICS")
        self.traced = _is_sent("TRACES")
        self.measured = scraped or sends_metrics
        self.reader: InMemoryMetricReader | None = None
        self._providers: list[Any] = []
        if self.traced or self.measured:
            resource = _resource()
            if self.traced:
                self._send_spans(resource)
            if self.measured:
                self._keep_metrics(resource, sent=sends_metrics, scraped=scraped)

    def close(self) -> None:
        """Send what has not been sent. What a collector has not taken within LAST_EXPORT is given up.

        Exporters try for half a minute by themselves, one after the other: an orchestrator would have killed the process.
        """
        give_up_at = time.monotonic() + LAST_EXPORT.total_seconds()
        closings = [Thread(target=provider.shutdown, daemon=True) for provider in self._providers]
        for closing in closings:
            closing.start()
        for closing in closings:
            closing.join(max(0.0, give_up_at - time.monotonic()))

    def _send_spans(self, resource: "Resource") -> None:
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (see above)
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (likewise)

        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if _protocol("TRACES") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc  # noqa: PLC0415 (likewise)

            exporter: Any = by_grpc.OTLPSpanExporter(channel_options=COLLECTOR_OPTIONS)  # type: ignore[arg-type]  # says text; gRPC takes numbers
        else:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http  # noqa: PLC0415 (likewise)

            exporter = by_http.OTLPSpanExporter(session=_session())
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        self._providers.append(provider)

    def _keep_metrics(self, resource: "Resource", *, sent: bool, scraped: bool) -> None:
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 (likewise)
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 (likewise)
            InMemoryMetricReader,
            MetricReader,
            PeriodicExportingMetricReader,
        )

        readers: list[MetricReader] = []
        if sent:
            readers.append(PeriodicExportingMetricReader(_metric_exporter()))
        if scraped:
            self.reader = InMemoryMetricReader()
            readers.append(self.reader)
        provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        metrics.set_meter_provider(provider)
        self._providers.append(provider)


def _metric_exporter() -> Any:
    if _protocol("METRICS") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as by_grpc  # noqa: PLC0415 (likewise)

        return by_grpc.OTLPMetricExporter(channel_options=COLLECTOR_OPTIONS)  # type: ignore[arg-type]  # as above
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as by_http  # noqa: PLC0415 (likewise)

    return by_http.OTLPMetricExporter(session=_session())


def _session() -> Any:
    import requests  # noqa: PLC0415 (likewise)

    session = requests.Session()
    session.trust_env = False  # To the collector that was named: see COLLECTOR_OPTIONS.
    return session


def _is_sent(signal: str) -> bool:
    """Whether a collector is named for this signal, and nothing says that none shall be sent."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return False
    return any(os.environ.get(name) for name in (ENDPOINT, f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))


def _protocol(signal: str) -> str:
    names = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    for name in names:
        if protocol := os.environ.get(name, "").strip().lower():
            if protocol not in PROTOCOLS:
                raise UnknownProtocol(f"{name} must be one of {', '.join(PROTOCOLS)}")
            return protocol
    return PROTOCOLS[0]


def _resource() -> "Resource":
    """Who speaks. What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before what we would."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415 (likewise)

    ours = {
        "service.name": SERVICE_NAME,
        "service.version": __version__,
        "service.instance.id": str(uuid4()),
    }
    return Resource.create(ours).merge(OTELResourceDetector().detect())
