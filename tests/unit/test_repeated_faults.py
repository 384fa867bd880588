"""Which lines are held back when a fault repeats."""

import logging
from typing import Any, Final

import pytest

from broker.telemetry.logs import MAX_FAULTS, REPEATS, REPEATS_WITHIN, RepeatedFaults

WINDOW_SECONDS: Final = REPEATS_WITHIN.total_seconds()
FAULT: Final = {"event": "refresh.attempt_ended", "ending": "timeout", "plugin_id": "4242"}
MORE: Final = 25


class Seconds:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """As the filter asks for it."""
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    """A clock."""
    return Seconds()


@pytest.fixture
def faults(seconds: Seconds) -> RepeatedFaults:
    """The filter under test."""
    return RepeatedFaults(seconds)


def _record(level: int = logging.WARNING, message: Any = None, **fields: Any) -> logging.LogRecord:
    said = message if message is not None else {**FAULT, **fields}
    return logging.LogRecord("broker", level, __file__, 1, said, None, None)


def _written(faults: RepeatedFaults, count: int, **fields: Any) -> int:
    return sum(faults.filter(_record(**fields)) for _ in range(count))


def test_a_fault_is_written_so_often_and_then_held_back(faults: RepeatedFaults) -> None:
    """Envoy down for an hour shall not fill a disk."""
    assert [faults.filter(_record()) for _ in range(REPEATS + 2)] == [True] * REPEATS + [False] * 2


def test_installs_share_one_fault(faults: RepeatedFaults) -> None:
    """Ten thousand installs that fail for one reason are one fault, not ten thousand."""
    passed = [faults.filter(_record(install_id=str(number))) for number in range(REPEATS + MORE)]
    assert sum(passed) == REPEATS


def test_the_next_line_says_for_how_many_it_stands(faults: RepeatedFaults, seconds: Seconds) -> None:
    """Nothing is lost but the words: who counts lines still gets the right sum."""
    _written(faults, REPEATS + MORE)
    seconds.now += WINDOW_SECONDS
    first, second = _record(), _record()
    assert faults.filter(first)
    assert first.msg == {**FAULT, "repeated": MORE}
    assert faults.filter(second)
    assert second.msg == FAULT


def test_lines_are_written_again_only_after_the_time_is_over(
    faults: RepeatedFaults, seconds: Seconds
) -> None:
    """A fault that comes all the time must not slip through by a clock that moves a little."""
    _written(faults, REPEATS)
    seconds.now += WINDOW_SECONDS - 0.001
    assert not faults.filter(_record())
    seconds.now += 0.001
    assert _written(faults, REPEATS + 1) == REPEATS


@pytest.mark.parametrize(
    "other",
    [
        {"event": "store.unavailable"},
        {"ending": "status_500"},
        {"plugin_id": "4343"},
        {"error": "it broke"},
        {"reason": "no"},
        {"problem": "the database can't be reached"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_fault_is_written_while_one_is_held_back(
    faults: RepeatedFaults, other: dict[str, str]
) -> None:
    """What else is wrong must not hide behind what repeats."""
    _written(faults, REPEATS + 1)
    record = _record(logging.WARNING, None, **other)
    assert faults.filter(record)
    assert "repeated" not in record.msg


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_is_no_fault_is_never_held_back(faults: RepeatedFaults, level: int) -> None:
    """INFO is what the broker does: an audit by log lines must not have gaps."""
    assert _written(faults, REPEATS + MORE, level=level) == REPEATS + MORE


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_every_level_of_fault_is_held_back(faults: RepeatedFaults, level: int) -> None:
    """A bug that is met at every call fills a disk as well as Envoy's outage does."""
    assert _written(faults, REPEATS + MORE, level=level) == REPEATS


def test_lines_of_libraries_are_held_back_by_their_template(faults: RepeatedFaults) -> None:
    """They log text and not fields; the text before its arguments are put in is what repeats."""
    assert _written(faults, REPEATS + MORE, message="lost connection to %s") == REPEATS
    assert faults.filter(_record(message="could not resolve %s"))


def test_so_many_faults_are_remembered_and_no_more(faults: RepeatedFaults) -> None:
    """Errors with words that are new each time must not fill the memory; the oldest is forgotten, never the newest."""
    _written(faults, REPEATS + 1)
    for number in range(MAX_FAULTS):
        assert faults.filter(_record(error=f"new words {number}"))
    assert faults.filter(_record())
    newest = f"new words {MAX_FAULTS - 1}"
    assert _written(faults, REPEATS, error=newest) == REPEATS - 1


def test_a_fault_that_goes_on_is_not_forgotten_for_others(faults: RepeatedFaults) -> None:
    """If it were, a storm of other faults would let it through each time."""
    _written(faults, REPEATS + 1)
    for number in range(MAX_FAULTS * 2):
        faults.filter(_record(error=f"new words {number}"))
        assert not faults.filter(_record())
