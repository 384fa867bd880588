"""Alerts, dashboard and runbooks speak of what there is: an alert on a renamed metric is silent for ever."""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from broker import cli
from broker.config import variable_of
from broker.config.reading import OTHER_VARIABLES
from broker.config.settings import Settings
from broker.domain.census import Within
from broker.domain.states import InstallState
from broker.telemetry import spans
from broker.telemetry.metrics import CATALOGUE
from tests.toolchains import requires_program
from tests.unit import observed

SEVERITIES: Final = {"page": "**Page.**", "ticket": "**Ticket.**"}
SECTIONS: Final = ("Who is affected", "Envoy or us?", "Look", "Do", "It is over when")
LEVELS: Final = frozenset({"Good:", "Must be 0"})
GRAFANA_OWN: Final = {"__rate_interval": "5m", "__range": "3h"}
EVENT: Final = re.compile(r"[a-z_]+\.[a-z_]+")
WORDS: Final[Mapping[str, set[str]]] = {
    "state": set(InstallState),
    "within": set(Within),
    "failing": {"true", "false"},
}
PROMTOOL_SECONDS: Final = 120

ALERTS: Final = observed.alerts()
EXPRESSIONS: Final = observed.all_expressions()
PAGES: Final = observed.runbooks()
in_each_place = pytest.mark.parametrize("place", EXPRESSIONS)
for_each_alert = pytest.mark.parametrize("alert", ALERTS)
on_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
in_each_panel = pytest.mark.parametrize("panel", observed.panels(), ids=lambda panel: panel["title"])


@in_each_place
def test_series_that_are_asked_for_are_exported(place: str) -> None:
    """PromQL does not complain of a name that nobody exports; it answers nothing."""
    known = set(observed.labels_by_series()) | observed.recorded()
    asked = {name for expression in EXPRESSIONS[place] for name in observed.series_of(expression)}
    assert asked - known == set()


@in_each_place
def test_labels_are_those_of_their_metric(place: str) -> None:
    """A matcher on a label that is not there matches nothing, or everything."""
    labels = observed.labels_by_series()
    selectors = [each for expression in EXPRESSIONS[place] for each in observed.selectors_of(expression)]
    wrong = [
        (selector.series, label)
        for selector in selectors
        for label, _ in selector.matchers
        if label not in labels.get(selector.series, observed.TARGET_LABELS)
    ]
    grouped = {label for expression in EXPRESSIONS[place] for label in observed.grouped_by(expression)}
    assert (wrong, grouped - set().union(*labels.values())) == ([], set())


@in_each_place
def test_values_of_labels_are_words_that_exist(place: str) -> None:
    """A misspelt state counts no install; a bound that is no bucket's has no series."""
    bounds = {
        f"{metric.prometheus_name}_bucket": {*(repr(float(bound)) for bound in metric.buckets), "+Inf"}
        for metric in CATALOGUE.values()
    }
    wrong = []
    for selector in (each for expression in EXPRESSIONS[place] for each in observed.selectors_of(expression)):
        for label, value in selector.matchers:
            words = bounds[selector.series] if label == "le" else WORDS.get(label)
            if words is not None and not set(value.split("|")) <= words:
                wrong.append((selector.series, label, value))
    assert wrong == []


def test_labels_of_the_dashboards_texts_exist() -> None:
    """A legend or a variable by a label that is gone is an empty word on the screen."""
    texts = [target["legendFormat"] for panel in observed.panels() for target in panel["targets"]]
    named = {label for text in texts for label in re.findall(r"{{(\w+)}}", text)}
    named |= {label for _, label in observed.variable_expressions()}
    assert named - set().union(*observed.labels_by_series().values()) == set()


@for_each_alert
def test_alert_says_what_it_is_and_where_to_read_on(alert: str) -> None:
    """Who is woken by it must not have to search."""
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{alert}.md"


@for_each_alert
def test_alert_has_a_runbook_of_the_same_severity_that_the_index_lists(alert: str) -> None:
    """A page that answers half the questions is looked for the other half at night."""
    text = (observed.RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n{SEVERITIES[ALERTS[alert]['labels']['severity']]}")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)
    assert f"]({alert}.md)" in (observed.RUNBOOKS / "README.md").read_text(encoding="utf-8")


def test_every_runbook_is_an_alerts() -> None:
    """A page of an alert that is gone misleads."""
    assert {page.stem for page in PAGES} - {"README"} == set(ALERTS)


@for_each_alert
def test_alert_fires_in_a_test_and_is_silent_before(alert: str) -> None:
    """One that never fired in a test may never fire."""
    fired = set()
    for case in observed.cases():
        looks = [[sample["labels"] for sample in look["exp_samples"]] for look in case["promql_expr_test"]]
        names = [{re.findall(r'alertname="(\w+)"', labels)[0] for labels in look} for look in looks]
        fired |= {name for name in set().union(*names) if any(name not in look for look in names)}
    assert alert in fired


@for_each_alert
def test_alert_is_linked_from_a_panel(alert: str) -> None:
    """From the alert one goes to the dashboard, and finds what it is about by the link back."""
    assert f"${{runbooks}}/{alert}.md" in {
        link["url"] for panel in observed.panels() for link in panel["links"]
    }


@in_each_panel
def test_panel_says_what_good_looks_like_and_links_to_runbooks(panel: dict[str, Any]) -> None:
    """A curve tells nothing to who has not seen it on a good day."""
    assert any(level in panel["description"] for level in LEVELS)
    links = [link["url"] for link in panel["links"]]
    pages = [url.removeprefix("${runbooks}/").removesuffix(".md") for url in links]
    assert pages
    assert set(pages) <= set(ALERTS)
    assert all(url in panel["description"] for url in links)


@in_each_panel
def test_panel_of_quantiles_shows_exemplars(panel: dict[str, Any]) -> None:
    """They are the way from a slow call to its trace."""
    quantiles = [target for target in panel["targets"] if "histogram_quantile" in target["expr"]]
    assert all(target.get("exemplar") for target in quantiles)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    """Grafana draws one over the other, and links to the wrong one."""
    every = observed.dashboard()["panels"]
    assert [number for number, count in Counter(panel["id"] for panel in every).items() if count > 1] == []
    places = [(panel["title"], panel["gridPos"]) for panel in every]
    assert [(a, b) for (a, one), (b, other) in combinations(places, 2) if _overlap(one, other)] == []


def test_dashboard_uses_the_variables_that_it_has() -> None:
    """One that is not there is sent to Prometheus as it stands."""
    text = observed.DASHBOARD.read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{?(\w+)", text)) - set(GRAFANA_OWN)
    assert used == {variable["name"] for variable in observed.dashboard()["templating"]["list"]}


@on_each_page
def test_commands_of_a_runbook_exist(page: Path) -> None:
    """At night nobody wants to read what a command is called now."""
    commands = [code for code in observed.code_in(page) if code.startswith("token-broker ")]
    assert [problem for command in commands if (problem := _problem_with(command))] == []


@on_each_page
def test_events_of_a_runbook_are_logged(page: Path) -> None:
    """Who looks for a line that is never written believes that all is well."""
    named = {code for code in observed.code_in(page) if EVENT.fullmatch(code)}
    known = _logged_events() | {value for value in vars(spans).values() if isinstance(value, str)}
    assert named - known == set()


@pytest.mark.parametrize(
    "page", [*PAGES, observed.ROOT / "docs/observe.md", observed.DASHBOARD], ids=lambda page: page.name
)
def test_settings_of_a_page_exist(page: Path) -> None:
    """The broker refuses a name that it does not know, and does not start."""
    known = {variable_of(field) for field in Settings.model_fields} | OTHER_VARIABLES
    named = set(re.findall(r"TOKEN_BROKER_[A-Z_]+", page.read_text(encoding="utf-8")))
    assert {name.removesuffix("_FILE") for name in named} - known == set()


def test_promtool_passes_the_rules_and_their_tests() -> None:
    """Which alert fires in which fault, and that no other does, is promtool's to judge."""
    _promtool("check", "rules", str(observed.RULES))
    _promtool("test", "rules", str(observed.RULES_TEST))


def test_every_expression_is_promql(tmp_path: Path) -> None:
    """Of the dashboard and the runbooks, too: Grafana shows a red corner, and no graph."""
    expressions = [
        *observed.dashboard_expressions(),
        *(selector for selector, _ in observed.variable_expressions()),
    ]
    expressions += [expression for page in PAGES for expression in observed.runbook_expressions(page)]
    for name, value in GRAFANA_OWN.items():
        expressions = [expression.replace(f"${name}", value) for expression in expressions]
    records = [
        {"record": f"expression:{number}", "expr": expression}
        for number, expression in enumerate(expressions)
    ]
    rules = tmp_path / "expressions.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "every", "rules": records}]}), encoding="utf-8")
    _promtool("check", "rules", "--lint=none", str(rules))


def _promtool(*arguments: str) -> None:
    promtool = requires_program("promtool")
    ran = subprocess.run(
        [promtool, *arguments], capture_output=True, text=True, check=False, timeout=PROMTOOL_SECONDS
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[long] and other[at] < one[at] + one[long]
        for at, long in (("x", "w"), ("y", "h"))
    )


def _problem_with(command: str) -> str | None:
    """Why there is no such command, or option of it."""
    at: Any = typer.main.get_command(cli.app)
    words = command.split()[1:]
    while words and hasattr(at, "commands"):
        found = at.commands.get(words.pop(0))
        if found is None:
            return f"{command}: no such command"
        at = found
    options = {option for parameter in at.params for option in parameter.opts}
    unknown = [word for word in words if word.startswith("--") and word not in options]
    return f"{command}: no {', '.join(unknown)}" if unknown else None


def _logged_events() -> set[str]:
    """The words of that form in every module that has a logger."""
    events = set()
    for module in (observed.ROOT / "broker").rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        if "structlog.get_logger(" in text:
            constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            events |= {value for value in constants if isinstance(value, str) and EVENT.fullmatch(value)}
    return events
