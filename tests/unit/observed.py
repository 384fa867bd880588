"""Reads what Prometheus and Grafana are given, and the pages about it: which series, labels and words they use."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from broker.telemetry.metrics import CATALOGUE

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy/prometheus/alerts.yaml"
RULES_TEST: Final = ROOT / "deploy/prometheus/alerts_test.yaml"
DASHBOARD: Final = ROOT / "deploy/grafana/token-broker.json"
RUNBOOKS: Final = ROOT / "docs/runbooks"

# What Prometheus says of each target that it asks.
TARGET_LABELS: Final = frozenset({"namespace", "job", "instance"})
# Series that are Prometheus' own, or OpenTelemetry's word on who speaks.
OTHER_SERIES: Final[Mapping[str, frozenset[str]]] = {
    "up": frozenset(),
    "ALERTS": frozenset({"alertname", "alertstate", "severity", "plugin_id", "rpc_method"}),
    "target_info": frozenset({"service_version"}),
}

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER: Final = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")')
_CLAUSE: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NO_NAMES: Final = re.compile(r"\{[^}]*\}|\[[^\]]*\]")
_NAME: Final = re.compile(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
_KEYWORDS: Final = frozenset({"and", "or", "unless", "offset", "bool"})
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`([^`]+)`")
_LABEL_VALUES: Final = re.compile(r"label_values\((.+), (\w+)\)")


class Selector(NamedTuple):
    """A series and what is asked of its labels: pairs of label and value."""

    series: str
    matchers: tuple[tuple[str, str], ...]


def series_of(expression: str) -> set[str]:
    """The names of series that a PromQL expression asks for."""
    rest = _CLAUSE.sub("", _NO_NAMES.sub("", _STRING.sub("", expression)))
    return set(_NAME.findall(rest)) - _KEYWORDS


def selectors_of(expression: str) -> list[Selector]:
    """Its selectors that have matchers."""
    return [
        Selector(name, tuple((label, value.strip('"')) for label, value in _MATCHER.findall(matchers)))
        for name, matchers in _SELECTOR.findall(expression)
    ]


def grouped_by(expression: str) -> set[str]:
    """The labels that it groups or joins by."""
    return {label.strip() for labels in _CLAUSE.findall(expression) for label in labels.split(",")} - {""}


def labels_by_series() -> dict[str, frozenset[str]]:
    """Every series there may be, with the labels that it may have."""
    ours = {
        series: TARGET_LABELS
        | {label.replace(".", "_") for label in metric.labels}
        | ({"le"} if series.endswith("_bucket") else set())
        for metric in CATALOGUE.values()
        for series in metric.series
    }
    return ours | {series: TARGET_LABELS | labels for series, labels in OTHER_SERIES.items()}


def rules() -> list[dict[str, Any]]:
    """Every rule, alerting and recording."""
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerting rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    """The names of recorded series."""
    return {rule["record"] for rule in rules() if "record" in rule}


def cases() -> list[dict[str, Any]]:
    """The cases of promtool's tests."""
    tests: list[dict[str, Any]] = yaml.safe_load(RULES_TEST.read_text(encoding="utf-8"))["tests"]
    return tests


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, Any]]:
    """Its panels, rows left out."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> Iterator[str]:
    """What its panels and annotations ask Prometheus, with Grafana's variables."""
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (note["expr"] for note in dashboard()["annotations"]["list"] if "expr" in note)


def variable_expressions() -> Iterator[tuple[str, str]]:
    """The selector and the label by which each of its variables finds its values."""
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield from _LABEL_VALUES.findall(variable["query"]["query"])


def runbooks() -> list[Path]:
    """The pages, and their index."""
    return sorted(RUNBOOKS.glob("*.md"))


def runbook_expressions(page: Path) -> Iterator[str]:
    """The PromQL in a page: one expression a line, with indented lines that go on."""
    for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "promql":
            yield from re.split(r"\n(?!\s)", text.rstrip("\n"))


def code_in(page: Path) -> Iterator[str]:
    """A page's code: the lines of its fences, and the spans of its prose."""
    text = page.read_text(encoding="utf-8")
    for _, fenced in _FENCE.findall(text):
        yield from (line.partition("#")[0].strip() for line in fenced.splitlines())
    for span in _SPAN.findall(_FENCE.sub("", text)):
        yield " ".join(span.split())


def all_expressions() -> dict[str, list[str]]:
    """Every expression, by where it stands."""
    by_place = {
        "alerts.yaml": [rule["expr"] for rule in rules()],
        "alerts_test.yaml": [series["series"] for case in cases() for series in case["input_series"]],
        "token-broker.json": [
            *dashboard_expressions(),
            *(selector for selector, _ in variable_expressions()),
        ],
    }
    return by_place | {page.name: list(runbook_expressions(page)) for page in runbooks()}
