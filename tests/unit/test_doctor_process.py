"""What the doctor says of the process that a broker would be."""

import os
import resource
from collections.abc import Callable

import pytest
import structlog

from broker import descriptors
from broker.doctor import process
from tests.doctor_lines import FAIL, OK, WARN, only, settings


@pytest.fixture(autouse=True)
def not_really_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own process stays as it is; a real one is closed in tests/acceptance/test_doctor.py."""
    monkeypatch.setattr(process, "close_process_to_onlookers", lambda: None)


def limited(hard: int) -> Callable[[int], tuple[int, int]]:
    """A getrlimit that tells this hard limit."""
    return lambda _which: (min(hard, 256), hard)


@pytest.mark.parametrize(("user_id", "weight"), [(0, WARN), (65532, OK)])
def test_root_is_told(monkeypatch: pytest.MonkeyPatch, user_id: int, weight: str) -> None:
    """It needs no right that root has, and an intruder would like them all."""
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    assert only("process", settings(), "runs as").weight == weight


def test_core_dumps_that_can_not_be_switched_off_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker does not start then: its memory would lie on a disk some day."""

    def refused() -> None:
        raise PermissionError(1, "Operation not permitted")

    assert only("process", settings(), "core dumps").weight is OK
    monkeypatch.setattr(process, "close_process_to_onlookers", refused)
    found = only("process", settings(), "core dumps")
    assert (found.weight, "Operation not permitted" in found.found) == (FAIL, True)


@pytest.mark.parametrize(("hard", "weight"), [(resource.RLIM_INFINITY, OK), (1_048_576, OK), (1024, WARN)])
def test_too_few_descriptors_are_told(monkeypatch: pytest.MonkeyPatch, hard: int, weight: str) -> None:
    """The broker would say so at its start, in a line that nobody looks for."""
    monkeypatch.setattr(resource, "getrlimit", limited(hard))
    assert only("process", settings(), "descriptors").weight == weight


def test_as_many_descriptors_are_asked_for_as_a_broker_makes_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two numbers for one thing would drift apart."""
    monkeypatch.setattr(resource, "getrlimit", limited(1024))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, _limits: None)
    with structlog.testing.capture_logs() as lines:
        descriptors.make_room(64)
    assert [line["needed"] for line in lines] == [process.needed_descriptors(64)]
