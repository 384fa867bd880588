"""The doctor's checks run at once, within their time, and none takes another down."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import pytest

from broker.doctor import Finding, examine
from broker.doctor.environment import Environment
from broker.doctor.examination import Check
from broker.doctor.findings import NotLooked, ok
from tests.doctor_lines import FAIL, OK, WARN, findings, only, settings

LIMIT: Final = timedelta(seconds=20)
A_MOMENT: Final = timedelta(milliseconds=50)
SECRET: Final = "canary-in-an-error"


def check(name: str, last: Callable[[], object], *, first: str = "", limit: timedelta = LIMIT) -> Check:
    """A check that finds `first`, and then does `last`."""

    def look(_environment: Environment) -> Iterator[Finding]:
        if first:
            yield ok(first)
        last()

    return Check(name, look, limit)


def raising(error: BaseException) -> Callable[[], object]:
    """Raises it."""

    def raise_it() -> object:
        raise error

    return raise_it


def test_checks_that_wait_wait_at_once() -> None:
    """A broken network makes many of them slow; one after the other they would take a minute."""
    meeting = threading.Barrier(3, timeout=LIMIT.total_seconds())
    report = examine({}, [check(name, meeting.wait, first=name) for name in ("a", "b", "c")])
    assert [(line.check, *line.finding) for line in report.lines] == [
        ("a", OK, "a", ""),
        ("b", OK, "b", ""),
        ("c", OK, "c", ""),
    ]
    assert not report.failed


@pytest.mark.parametrize("error", [RuntimeError(SECRET), TimeoutError(SECRET), SystemExit(SECRET)])
def test_check_that_breaks_is_its_own_failure_and_tells_no_more_than_its_kind(error: BaseException) -> None:
    """An error's text may quote a password; and the other lines are worth having."""
    report = examine({}, [check("broken", raising(error), first="before"), check("well", list, first="fine")])
    before, broken, well = report.lines
    assert (before.finding, well.finding) == (ok("before"), ok("fine"))
    assert (broken.finding.weight, broken.finding.found) == (FAIL, f"the check broke: {type(error).__name__}")
    assert report.failed
    assert report.left_behind == []
    assert SECRET not in repr(report)


def test_check_that_hangs_is_left_behind_when_its_time_is_over() -> None:
    """It is run because something hangs; what it found until then is told."""
    over = threading.Event()
    try:
        report = examine({}, [check("hangs", over.wait, first="before", limit=A_MOMENT)])
    finally:
        over.set()
    before, late = (line.finding for line in report.lines)
    assert before == ok("before")
    assert (late.weight, late.found) == (FAIL, "no answer within 0.05 s")
    assert report.left_behind == ["hangs"]


def test_check_that_can_not_look_says_why_and_fails_nothing() -> None:
    """What is wrong is told once, by the check whose subject it is."""
    report = examine({}, [check("blind", raising(NotLooked("the lamp is out")))])
    (line,) = report.lines
    assert (line.finding.weight, line.finding.found) == (WARN, "not looked at: the lamp is out")
    assert not report.failed


def test_each_problem_of_the_settings_is_a_line() -> None:
    """All are mended in one go."""
    variables = settings(DATABASE_URL="", CALL_SECONDS="soon", LOG_LEVL="info")
    found = findings("configuration", variables)
    problems = [each.found for each in found if each.weight is FAIL]
    assert len(problems) == 3
    assert any("TOKEN_BROKER_LOG_LEVL is no setting; did you mean" in problem for problem in problems)
    assert all(each.remedy for each in found)


def test_good_settings_are_one_line_and_serving_anybody_is_another() -> None:
    """A development setting that went to production is worth a line each time."""
    good, anybody = findings("configuration", settings())
    assert (good.weight, anybody.weight) == (OK, WARN)
    assert "INSECURE_SERVE_ANYBODY" in anybody.found


def test_vouching_is_told() -> None:
    """A caller could plant a token; who set it should know."""
    told = only("configuration", settings(TRUST_VOUCHED_WEBHOOKS="true"), "TRUST_VOUCHED_WEBHOOKS")
    assert told.weight is WARN


def test_broken_setting_blinds_those_who_need_it_and_nobody_else() -> None:
    """Not its default is looked at in its place, which would be a lie; and a start with two mistakes shows both."""
    variables = settings(
        ENVOY_TOKEN_URL="ftp://envoy", POLICY_FILE="/nowhere", INSECURE_SERVE_ANYBODY="false"
    )
    blind = only("provider", variables)
    assert (blind.weight, blind.found) == (
        WARN,
        "not looked at: TOKEN_BROKER_ENVOY_TOKEN_URL can't be used; see configuration",
    )
    assert only("policy", variables).weight is FAIL
    assert only("keys", variables).weight is OK


def test_database_url_that_libpq_can_not_read_is_a_problem_and_goes_no_further() -> None:
    """It is psycopg that would quote it."""
    variables = settings(DATABASE_URL="postgresql//user:canary@host/db")
    (problem,) = [each for each in findings("configuration", variables) if each.weight is FAIL]
    assert problem.found == "TOKEN_BROKER_DATABASE_URL is no connection string that libpq can read"
    assert "TOKEN_BROKER_DATABASE_URL can't be used" in only("database", variables).found


def test_setting_in_a_file_that_can_not_be_read_has_no_default() -> None:
    """Its variable is set: whoever set it wants no default."""
    variables = settings(AUDIT_KEY_FILE="/nowhere", AUDIT_LOG="-")
    assert "TOKEN_BROKER_AUDIT_KEY can't be used" in only("audit", variables).found
