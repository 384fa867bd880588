"""The text that Prometheus reads, judged by Prometheus' own parsers."""

import math
import subprocess
from collections.abc import Iterable
from typing import Any, Final

import pytest
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    format_span_id,
    format_trace_id,
    use_span,
)
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.samples import Sample

from broker.telemetry import metrics
from broker.telemetry.kinds import Kind, Metric
from broker.telemetry.openmetrics import rendered
from tests.toolchains import requires_program

# As Prometheus asks (scrape_protocols, by its documents' default).
PROMETHEUS_ACCEPTS: Final = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMTOOL_SECONDS: Final = 120
# What promtool would call otherwise: OpenTelemetry's name, by its rules.
NAMED_BY_OTHERS: Final = [
    'db_client_connection_count non-histogram and non-summary metrics should not have "_count" suffix'
]
TRACE_ID: Final = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID: Final = 0x00F067AA0BA902B7
SAMPLED: Final = NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(1)))
UNSAMPLED: Final = NonRecordingSpan(
    SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(0))
)


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """What is read."""
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader: InMemoryMetricReader) -> Meter:
    """What counts."""
    resource = Resource({"service.name": "envoy-token-broker"})
    return MeterProvider([reader], resource=resource, shutdown_on_exit=False).get_meter("test")


def _histogram(meter: Meter, metric: Metric) -> Any:
    return meter.create_histogram(
        metric.name, metric.unit, metric.tells, explicit_bucket_boundaries_advisory=metric.buckets
    )


def _samples(reader: InMemoryMetricReader, accept: str = PROMETHEUS_ACCEPTS) -> list[Sample]:
    text, content_type = rendered(reader, accept)
    parse = openmetrics if content_type.startswith("application/openmetrics-text") else plain
    families: Iterable[Any] = parse.text_string_to_metric_families(text.decode())
    return [sample for family in families for sample in family.samples]


def _named(samples: Iterable[Sample], name: str) -> list[Sample]:
    return [sample for sample in samples if sample.name == name]


@pytest.mark.usefixtures("meter")
def test_prometheus_gets_openmetrics(reader: InMemoryMetricReader) -> None:
    """Only that form has exemplars; Prometheus says by the content type how it reads the text."""
    text, content_type = rendered(reader, PROMETHEUS_ACCEPTS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert text.endswith(b"# EOF\n")


@pytest.mark.usefixtures("meter")
@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "text/plain;version=0.0.4"])
def test_everybody_else_gets_plain_text(reader: InMemoryMetricReader, accept: str) -> None:
    """A person with curl and a browser are no Prometheus."""
    text, content_type = rendered(reader, accept)
    assert content_type.startswith("text/plain")
    assert b"# EOF" not in text


@pytest.mark.parametrize("accept", [PROMETHEUS_ACCEPTS, ""], ids=["openmetrics", "plain"])
def test_a_counter_is_named_and_labelled_as_prometheus_wants_it(
    reader: InMemoryMetricReader, meter: Meter, accept: str
) -> None:
    """Alerts and dashboards go by these names, in either form."""
    labels = {metrics.PLUGIN_ID: "4242", "purpose": "due", "ending": "refreshed"}
    meter.create_counter(metrics.ATTEMPTS.name).add(3, labels)
    (sample,) = _named(_samples(reader, accept), "tokenbroker_attempts_total")
    assert (sample.labels, sample.value) == (labels, 3)


def test_labels_lose_their_dots(reader: InMemoryMetricReader, meter: Meter) -> None:
    """A label with a dot is none that Prometheus' language can name without quotes."""
    labels = {metrics.RPC_SYSTEM: "grpc", metrics.RPC_METHOD: "a/B", metrics.RPC_STATUS: "OK"}
    _histogram(meter, metrics.CALL).record(0.1, labels)
    (count,) = _named(_samples(reader), "rpc_server_call_duration_seconds_count")
    assert set(count.labels) == {"rpc_system_name", "rpc_method", "rpc_response_status_code"}


def test_a_label_may_have_any_character(reader: InMemoryMetricReader, meter: Meter) -> None:
    """Nobody can write series of their own by a name with a quote in it."""
    odd = 'a"} 1\nforged{x="\\'
    meter.create_counter(metrics.IN_DOUBT.name).add(1, {metrics.PLUGIN_ID: odd})
    samples = _samples(reader)
    (sample,) = _named(samples, "tokenbroker_attempts_in_doubt_total")
    assert sample.labels == {"plugin_id": odd}
    assert _named(samples, "forged") == []


def test_buckets_count_all_that_is_not_larger(reader: InMemoryMetricReader, meter: Meter) -> None:
    """What equals a bound is in its bucket: a first presentation must be one with le="1.0"."""
    histogram = _histogram(meter, metrics.PRESENTATIONS_OF_GENERATION)
    for value in (1, 1, 2, 7):
        histogram.record(value)
    samples = _samples(reader)
    name = "tokenbroker_generation_presentations"
    buckets = {sample.labels["le"]: sample.value for sample in _named(samples, f"{name}_bucket")}
    assert buckets == {"1.0": 2, "2.0": 3, "3.0": 3, "+Inf": 4}
    assert [sample.value for sample in _named(samples, f"{name}_count")] == [4]
    assert [sample.value for sample in _named(samples, f"{name}_sum")] == [11]


def test_gauges_are_what_they_are_now(reader: InMemoryMetricReader, meter: Meter) -> None:
    """A gauge whose last value stayed when its series ended would show a circuit open for ever."""
    open_circuits = [("4242", "timeout")]

    def look(_options: Any) -> list[Any]:
        return [
            Observation(1, {metrics.PLUGIN_ID: plugin_id, "kind": kind}) for plugin_id, kind in open_circuits
        ]

    meter.create_observable_gauge(metrics.CIRCUIT.name, [look])
    name = "tokenbroker_provider_circuit_open"
    assert [sample.value for sample in _named(_samples(reader), name)] == [1]
    open_circuits.clear()
    assert _named(_samples(reader), name) == []


def test_an_exemplar_leads_to_the_trace(reader: InMemoryMetricReader, meter: Meter) -> None:
    """By it one gets from a slow call to what made it slow; it stands in the bucket that the call is counted in."""
    histogram = _histogram(meter, metrics.CALL)
    with use_span(SAMPLED):
        histogram.record(0.3)
    (example,) = [sample for sample in _samples(reader) if sample.exemplar]
    assert example.labels["le"] == "0.5"
    assert example.exemplar is not None
    assert example.exemplar.labels == {
        "trace_id": format_trace_id(TRACE_ID),
        "span_id": format_span_id(SPAN_ID),
    }
    assert example.exemplar.value == pytest.approx(0.3)
    assert example.exemplar.timestamp is not None


def test_an_exemplar_may_be_larger_than_every_bound(reader: InMemoryMetricReader, meter: Meter) -> None:
    """The slowest call of all is the one whose trace is wanted most."""
    beyond = metrics.CALL_SECONDS[-1] * 2
    with use_span(SAMPLED):
        _histogram(meter, metrics.CALL).record(beyond)
    (example,) = [sample for sample in _samples(reader) if sample.exemplar]
    assert float(example.labels["le"]) == math.inf


def test_a_counter_has_an_exemplar_too(reader: InMemoryMetricReader, meter: Meter) -> None:
    """Which attempt was it that ended so?"""
    with use_span(SAMPLED):
        meter.create_counter(metrics.ATTEMPTS.name).add(1, {metrics.PLUGIN_ID: "4242"})
    (sample,) = _named(_samples(reader), "tokenbroker_attempts_total")
    assert sample.exemplar is not None
    assert sample.exemplar.labels["trace_id"] == format_trace_id(TRACE_ID)


def test_what_is_in_no_sampled_trace_has_no_exemplar(reader: InMemoryMetricReader, meter: Meter) -> None:
    """A link to a trace that was not kept leads nowhere."""
    histogram = _histogram(meter, metrics.CALL)
    histogram.record(0.3)
    with use_span(UNSAMPLED):
        histogram.record(0.3)
    assert [sample for sample in _samples(reader) if sample.exemplar] == []


def test_what_is_in_no_trace_at_all_is_no_example(reader: InMemoryMetricReader) -> None:
    """Also where OTEL_METRICS_EXEMPLAR_FILTER=always_on wants one of everything."""
    provider = MeterProvider([reader], exemplar_filter=AlwaysOnExemplarFilter(), shutdown_on_exit=False)
    _histogram(provider.get_meter("test"), metrics.CALL).record(0.3)
    assert [sample for sample in _samples(reader) if sample.exemplar] == []


def test_plain_text_has_no_exemplars(reader: InMemoryMetricReader, meter: Meter) -> None:
    """Its grammar has none, and Prometheus would refuse the page."""
    with use_span(SAMPLED):
        _histogram(meter, metrics.CALL).record(0.3)
    text, _ = rendered(reader, "")
    assert format_trace_id(TRACE_ID).encode() not in text
    assert _named(_samples(reader, ""), "rpc_server_call_duration_seconds_count")


def test_what_the_catalogue_lacks_is_not_shown(reader: InMemoryMetricReader, meter: Meter) -> None:
    """Libraries count, too, by labels whose bounds nobody has looked at."""
    meter.create_counter("somebody.elses").add(1, {"peer": "10.0.0.1"})
    assert [sample.name for sample in _samples(reader)] == ["target_info"]


def test_the_target_says_who_it_is(reader: InMemoryMetricReader, meter: Meter) -> None:
    """OpenTelemetry's resource, in the one place that its rules for Prometheus give it."""
    meter.create_counter(metrics.COLLISIONS.name).add(1)
    (target,) = _named(_samples(reader), "target_info")
    assert target.labels["service_name"] == "envoy-token-broker"


def test_promtool_finds_nothing_wrong(reader: InMemoryMetricReader, meter: Meter) -> None:
    """Prometheus' own judge of names, kinds and words, over every metric that there is."""
    for metric in metrics.CATALOGUE.values():
        labels = dict.fromkeys(metric.labels, "x")
        if metric.kind is Kind.HISTOGRAM:
            _histogram(meter, metric).record(1, labels)
        elif metric.kind is Kind.COUNTER:
            meter.create_counter(metric.name, metric.unit, metric.tells).add(1, labels)
        else:
            meter.create_gauge(metric.name, metric.unit, metric.tells).set(1, labels)
    text, _ = rendered(reader, "")
    assert {sample.name for sample in _samples(reader, "")} >= metrics.PROMETHEUS_NAMES
    judged = subprocess.run(
        [requires_program("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        check=False,
        timeout=PROMTOOL_SECONDS,
    )
    assert judged.stderr.decode().splitlines() == NAMED_BY_OTHERS
