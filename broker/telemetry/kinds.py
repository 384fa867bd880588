"""What a metric is: its name, what it does, what it tells, and what Prometheus makes of its name."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a metric does: it grows, it is what it is, or it counts by size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Attributes: unit: as UCUM has it, "" for a number of things. buckets: a histogram's upper bounds."""

    name: str
    kind: Kind
    tells: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """What Prometheus calls it (OpenTelemetry's rules for compatibility), without a suffix such as _bucket."""
        return self.name.replace(".", "_") + {"s": "_seconds"}.get(self.unit, "")

    @property
    def series(self) -> frozenset[str]:
        """The names of the series that Prometheus keeps of it."""
        suffixes = {
            Kind.COUNTER: ("_total",),
            Kind.GAUGE: ("",),
            Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
        }
        return frozenset(self.prometheus_name + suffix for suffix in suffixes[self.kind])
