"""The catalogue of metrics: it is all there is, and Prometheus can keep it."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from broker.telemetry import metrics
from broker.telemetry.kinds import Kind, Metric
from broker.telemetry.metrics import CATALOGUE
from docs.metrics_table import metrics_table

BROKER: Final = Path(metrics.__file__).parents[1]
TABLE: Final = BROKER / "telemetry/metrics.py"
# What makes a meter or an instrument (OpenTelemetry's API).
MAKES_INSTRUMENTS: Final = re.compile(
    r"get_meter|create_(observable_)?(counter|gauge|histogram|up_down_counter)"
)
# Every label, and what bounds it. A new one is argued here: an id of an install, a company or a caller has no bound.
BOUNDED_BY: Final[Mapping[str, str]] = {
    metrics.PLUGIN_ID: "the apps of the settings",
    metrics.RPC_SYSTEM: "grpc alone",
    metrics.RPC_METHOD: "the methods of the protos",
    metrics.RPC_STATUS: "gRPC's status codes",
    metrics.CONNECTION_STATE: "used and idle",
    "source": "memory, store, refresh",
    "state": "InstallState",
    "failing": "true and false",
    "within": "Within",
    "purpose": "Purpose",
    "ending": "Ending, and the kinds of faults: the broker's own words, never Envoy's",
    "grant": "the two grants",
    "outcome": "issued, the kinds of faults, the names of errors",
    "kind": "the kinds of faults",
}
ALL: Final = pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
NAME: Final = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
# What Prometheus adds to names, or means by them: a name that has it already would have it twice.
SUFFIXES: Final = ("_total", "_seconds", "_bucket", "_sum", "_count", "_info", "_created")
# Of OpenTelemetry's own names, which are not ours to choose.
NOT_OURS: Final = frozenset({metrics.POOL})


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(BROKER.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def _attributes(tree: ast.AST) -> Iterator[str]:
    return (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def test_every_metric_that_has_a_name_is_in_the_catalogue() -> None:
    """/metrics shows what the catalogue has: one that was forgotten there would be counted for nobody."""
    named = {value for value in vars(metrics).values() if isinstance(value, Metric)}
    assert named == set(CATALOGUE.values())


def test_instruments_are_made_in_one_place() -> None:
    """So that the catalogue, and the documents made from it, can't lack one."""
    elsewhere = {
        f"{path.relative_to(BROKER)}: {name}"
        for path, tree in _modules()
        if path != TABLE
        for name in _attributes(tree)
        if MAKES_INSTRUMENTS.fullmatch(name)
    }
    assert elsewhere == set()


def test_every_metric_is_fed() -> None:
    """A metric that nobody feeds is a panel without a line, and an alert that never fires."""
    instruments = {
        node.target.id: node.value.args[0].id
        for node in ast.parse(TABLE.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id in {"_counter", "_histogram"}
        and isinstance(node.value.args[0], ast.Name)
    }
    used = {name for path, tree in _modules() if path != TABLE for name in _attributes(tree)}
    fed = {constant for instrument, constant in instruments.items() if instrument in used}
    names = {name for name, value in vars(metrics).items() if isinstance(value, Metric)}
    assert names - fed - used == set()


def test_no_two_metrics_share_a_series() -> None:
    """Prometheus refuses the whole page for one series that is there twice."""
    series = Counter(name for metric in CATALOGUE.values() for name in metric.series)
    assert [name for name, count in series.items() if count > 1] == []
    assert set(series) == metrics.PROMETHEUS_NAMES


@ALL
def test_every_label_has_a_bound(metric: Metric) -> None:
    """A label that grows with installs kills the Prometheus that keeps it, and tells who the customers are."""
    assert set(metric.labels) <= set(BOUNDED_BY)
    assert len(set(metric.labels)) == len(metric.labels)


def test_no_bound_is_argued_for_nothing() -> None:
    """The list of bounds is that of the labels, so that it can be read as such."""
    assert {label for metric in CATALOGUE.values() for label in metric.labels} == set(BOUNDED_BY)


@ALL
def test_names_are_as_both_worlds_want_them(metric: Metric) -> None:
    """OpenTelemetry's rules put units and kinds behind the names for Prometheus; ours must not have them already."""
    assert NAME.fullmatch(metric.name)
    assert metric in NOT_OURS or not metric.name.replace(".", "_").endswith(SUFFIXES)


@ALL
def test_histograms_have_buckets_and_nothing_else_has(metric: Metric) -> None:
    """Without bounds of its own a histogram gets the SDK's, which are made for milliseconds."""
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@ALL
def test_every_metric_stands_in_the_documents_table(metric: Metric) -> None:
    """An operator finds by the name that Prometheus shows, or that a collector does, what it tells."""
    (row,) = [line for line in metrics_table().splitlines() if f"`{metric.name}`" in line]
    assert f"`{metric.prometheus_name}" in row
    assert metric.tells in row
    assert row.count(" | ") == 3
    for label in metric.labels:
        assert f"`{label.replace('.', '_')}`" in row
