"""A process makes room for the connections that its bounds let in."""

import resource
from collections.abc import Iterator

import pytest
import structlog

from broker import descriptors

OWN = 64


class _Limits:
    """Stands in for the system's: the tests' own process keeps what it has."""

    def __init__(self, soft: int, hard: int) -> None:
        self.soft, self.hard = soft, hard

    def getrlimit(self, _which: int) -> tuple[int, int]:
        return self.soft, self.hard

    def setrlimit(self, _which: int, limits: tuple[int, int]) -> None:
        self.soft, self.hard = limits


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def _made_room(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> int:
    limits = _Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limits.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", limits.setrlimit)
    descriptors.make_room(OWN)
    return limits.soft


@pytest.mark.parametrize("hard", [1_048_576, resource.RLIM_INFINITY])
def test_low_soft_limit_is_raised(
    monkeypatch: pytest.MonkeyPatch, hard: int, logged: list[structlog.typing.EventDict]
) -> None:
    """1,024 is the custom, and the connections of one flood."""
    assert 2048 < _made_room(monkeypatch, 1024, hard) < 10_000
    assert logged == []


@pytest.mark.parametrize("soft", [20_000, resource.RLIM_INFINITY])
def test_limit_that_suffices_is_left_alone(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    """It may have been chosen."""
    assert _made_room(monkeypatch, soft, soft) == soft


def test_too_low_a_hard_limit_is_told(
    monkeypatch: pytest.MonkeyPatch, logged: list[structlog.typing.EventDict]
) -> None:
    """The broker serves all the same; in a flood it may lack connections to its database."""
    assert _made_room(monkeypatch, 256, 1024) == 1024
    assert [line["event"] for line in logged] == ["broker.few_descriptors"]
