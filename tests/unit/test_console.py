"""The console's pure parts: what contradicts it, whose names are this machine's, and how counts and times are told."""

from datetime import UTC, datetime, timedelta

import pytest

from broker.config import load_settings
from broker.domain.census import AppHealth, CensusOfInstalls, ExpiringOf, InstallsOf, Within
from broker.domain.states import InstallState
from broker.web.console.door import is_this_machine
from broker.web.console.overview import SOON, overview_of
from broker.web.console.rendering import length, relative
from tests.unit.test_settings import (
    BEARER_TOKENS,
    GOOD,
    MUTUAL_TLS,
    RECORDED,
    WITHOUT_CALLERS,
    problems_of,
)

ANYBODY = {"TOKEN_BROKER_INSECURE_SERVE_ANYBODY": "true"}
CONSOLE = {"TOKEN_BROKER_CONSOLE": "true"}
HERE = {**CONSOLE, "TOKEN_BROKER_OPERATIONS_ADDRESS": "127.0.0.1:9090"}
ANYWHERE = {**CONSOLE, "TOKEN_BROKER_OPERATIONS_ADDRESS": "0.0.0.0:9090"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CENSUS = CensusOfInstalls(
    counted_at=NOON,
    installs={
        InstallsOf("4242", InstallState.ACTIVE, failing=False): 997,
        InstallsOf("4242", InstallState.ACTIVE, failing=True): 2,
        InstallsOf("4242", InstallState.UNINSTALLED, failing=False): 1,
        InstallsOf("4343", InstallState.ACTIVE, failing=True): 5,
    },
    expiring={ExpiringOf("4242", Within.EXPIRED): 1, ExpiringOf("4343", Within.DAY): 5},
    apps=(AppHealth("4343", 0, "rate_limited", NOON), AppHealth("4242", 20, "", None)),
)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (CONSOLE | ANYBODY, "OPERATIONS_ADDRESS must be set where"),
        (ANYWHERE | ANYBODY, "OPERATIONS_ADDRESS must be a loopback address where TOKEN_BROKER_CONSOLE"),
        (ANYWHERE | BEARER_TOKENS | RECORDED, "bearer tokens would travel in the clear"),
    ],
)
def test_console_that_is_open_or_overheard_is_refused(environ: dict[str, str], expected: str) -> None:
    """A slip in an address must not show every install to a network."""
    assert expected in problems_of({**WITHOUT_CALLERS, **environ})


@pytest.mark.parametrize(
    "environ", [HERE | ANYBODY, HERE | BEARER_TOKENS | RECORDED, ANYWHERE | MUTUAL_TLS | RECORDED]
)
def test_console_on_loopback_or_over_tls_is_taken(environ: dict[str, str]) -> None:
    """What the documents say to do works."""
    good = {name: value for name, value in GOOD.items() if name not in ANYBODY}
    assert load_settings({**good, **environ}).console


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:9090", True),
        ("LOCALHOST", True),
        ("127.0.0.1:9090", True),
        ("127.8.9.1", True),
        ("[::1]:9090", True),
        ("[::1]", True),
        ("", False),
        ("evil.example:9090", False),
        ("localhost.evil.example", False),
        ("192.0.2.1:9090", False),
        ("127.0.0.1.evil.example:80", False),
        ("[::2]:9090", False),
    ],
)
def test_this_machine_is_told_from_others_by_its_names(host: str, *, expected: bool) -> None:
    """A name that somebody else points here is not ours."""
    assert is_this_machine(host) is expected


def test_overview_leaves_out_apps_that_may_not_be_seen() -> None:
    """Neither their counts, nor their health, nor their part in the sums."""
    seen = overview_of(CENSUS, lambda plugin_id: plugin_id == "4242")
    assert {row.plugin_id for row in (*seen.by_state, *seen.by_expiry)} == {"4242"}
    assert [app.plugin_id for app in seen.apps] == ["4242"]
    assert (seen.installs, seen.failing) == (1000, 2)


def test_few_of_many_are_not_told_as_none() -> None:
    """One expired install in a thousand is somebody's."""
    seen = overview_of(CENSUS, lambda _: True)
    assert [(row.what, row.installs, row.share) for row in seen.by_state if row.plugin_id == "4242"] == [
        ("active", 999, 100),
        ("uninstalled", 1, 1),
    ]
    assert [row.alarming for row in seen.by_expiry] == [True, False]


def test_every_time_to_expiry_has_words() -> None:
    """One that the census learns of later would fail the page."""
    assert set(SOON) == set(Within)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=1), "1 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=90), "90 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=2), "2 d"),
    ],
)
def test_spans_are_told_in_the_largest_unit_of_which_there_are_a_few(span: timedelta, expected: str) -> None:
    """At night nobody divides by 3600."""
    assert length(span) == expected


def test_moments_are_told_from_now() -> None:
    """Before or behind."""
    assert relative(NOON + timedelta(minutes=5), NOON) == "in 5 min"
    assert relative(NOON - timedelta(days=3), NOON) == "3 d ago"
