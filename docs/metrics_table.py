"""Every metric, as Prometheus and as OTLP name it: read from the catalogue in broker/telemetry/metrics.py."""

from typing import Final

from broker.telemetry.kinds import Kind, Metric
from broker.telemetry.metrics import CATALOGUE

_HEADER: Final = "| Prometheus<br>OTLP | kind | labels | what it tells |"


def metrics_table() -> str:
    """The catalogue, in its order."""
    return "\n".join([_HEADER, "| --- | --- | --- | --- |", *map(_row, CATALOGUE.values())])


def _row(metric: Metric) -> str:
    suffix = "_total" if metric.kind is Kind.COUNTER else ""
    names = f"`{metric.prometheus_name}{suffix}`<br>`{metric.name}`"
    labels = "<br>".join(f"`{label.replace('.', '_')}`" for label in metric.labels)
    tells = metric.tells.replace("|", r"\|")
    return f"| {names} | {_kind(metric)} | {labels} | {tells} |"


def _kind(metric: Metric) -> str:
    unit = {"s": " s"}.get(metric.unit, "")
    if not metric.buckets:
        return metric.kind.value + (" (s)" if unit else "")
    return f"{metric.kind.value}, {metric.buckets[0]:g} to {metric.buckets[-1]:g}{unit}"
