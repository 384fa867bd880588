"""requires_program: what is missing is said, and CI does not pass by skipping."""

import sys
from pathlib import Path

import pytest

from tests.toolchains import requires_program

ABSENT = "a-program-that-nobody-has"


def test_program_beside_this_python_is_found() -> None:
    """The lock's own programs (buf) need no PATH."""
    name = Path(sys.executable).name
    assert requires_program(name) == Path(sys.executable).parent / name


def test_absent_program_skips_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of the summary learns what to install."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=ABSENT):
        requires_program(ABSENT)


def test_absent_program_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A green run that skipped the half of it is worth nothing."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=ABSENT):
        requires_program(ABSENT)
