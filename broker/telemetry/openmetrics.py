"""What Prometheus reads: the metrics of the OpenTelemetry SDK in OpenMetrics' text, with exemplars.

The SDK's own exporter for Prometheus knows no exemplars (0.66b2), by which one gets from a slow call to its trace.
Names follow OpenTelemetry's rules for compatibility with Prometheus; the text is written by Prometheus' own library.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Exemplar

from broker.telemetry.kinds import Metric
from broker.telemetry.metrics import CATALOGUE

NANOSECONDS: Final = 1e9


def rendered(reader: InMemoryMetricReader, accept: str) -> tuple[bytes, str]:
    """The text of what is counted now, and its content type: OpenMetrics for who accepts it, else Prometheus' own."""
    encode, content_type = choose_encoder(accept)
    text: bytes = encode(_Families(reader))
    return text, content_type


class _Families:
    """What prometheus_client calls a registry."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def collect(self) -> Iterator[Family]:
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            target = Family("target", "Who speaks.", "info")
            target.add_sample("target_info", _labels(resource.resource.attributes), 1)
            yield target
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name in CATALOGUE:
                        yield _family(CATALOGUE[metric.name], metric.data.data_points)


def _family(metric: Metric, points: Iterable[Any]) -> Family:
    name = metric.prometheus_name
    family = Family(name, metric.tells, metric.kind.value)
    for point in points:
        labels = _labels(point.attributes or {})
        if isinstance(point, HistogramDataPoint):
            _add_histogram(family, name, labels, point)
        elif isinstance(point, NumberDataPoint):
            suffix = "_total" if metric.kind.value == "counter" else ""
            family.add_sample(
                name + suffix, labels, point.value, exemplar=_newest(point.exemplars) if suffix else None
            )
    return family


def _add_histogram(family: Family, name: str, labels: Mapping[str, str], point: HistogramDataPoint) -> None:
    bounds = [*point.explicit_bounds, float("inf")]
    exemplars = {bisect_left(bounds, exemplar.value): exemplar for exemplar in point.exemplars}
    count = 0
    for place, (bound, more) in enumerate(zip(bounds, point.bucket_counts, strict=True)):
        count += more
        exemplar = _exemplar(exemplars[place]) if place in exemplars else None
        bucket = {**labels, "le": "+Inf" if bound == bounds[-1] else repr(float(bound))}
        family.add_sample(f"{name}_bucket", bucket, count, exemplar=exemplar)
    family.add_sample(f"{name}_sum", dict(labels), point.sum)
    family.add_sample(f"{name}_count", dict(labels), point.count)


def _newest(exemplars: Sequence[Any]) -> Exemplar | None:
    newest = max(exemplars, key=lambda exemplar: int(exemplar.time_unix_nano), default=None)
    return _exemplar(newest) if newest is not None else None


def _exemplar(exemplar: Any) -> Exemplar | None:
    if not exemplar.trace_id:
        return None
    names = {"trace_id": format_trace_id(exemplar.trace_id), "span_id": format_span_id(exemplar.span_id)}
    return Exemplar(names, exemplar.value, exemplar.time_unix_nano / NANOSECONDS)


def _labels(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {key.replace(".", "_"): str(value) for key, value in attributes.items()}
