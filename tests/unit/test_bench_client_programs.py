"""What the clients' benchmark takes from a client's program, and what it refuses."""

import json
from typing import Any, Final

import pytest

from bench.client_programs import PROGRAMS, ClientFailedError, Program, build, measure, middle

PRINTED: Final[dict[str, Any]] = {
    "language": "any",
    "runtime": "any 1.0",
    "fresh_read_ns": 90.0,
    "yardstick": "a read",
    "yardstick_ns": 30.0,
    "ratio": 3.0,
    "aim": 3,
    "allocations_per_read": None,
    "bytes_per_read": 0,
    "contended_16_ns": 100.0,
    "contended_yardstick_ns": 50.0,
    "tokens_per_second": 11_000_000.0,
    "calls_per_second": 1_000.0,
    "clock_read_ns": 20.0,
}


def stand_in(monkeypatch: pytest.MonkeyPatch, statement: str) -> str:
    """The name of a program that does just this."""
    monkeypatch.setitem(PROGRAMS, "stand-in", Program((), ("python", "-c", statement)))
    return "stand-in"


async def test_program_is_told_whom_to_ask_and_what_it_printed_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A figure of its own, which no other language has, is kept under its own name."""
    told = ["--target", "127.0.0.1:1", "--install", "7", "--seconds", "2"]
    name = stand_in(
        monkeypatch, f"import sys; assert sys.argv[1:] == {told}; print('''{json.dumps(PRINTED)}''')"
    )
    reading = await measure(name, "127.0.0.1:1", "7", 2)
    assert (reading.ratio, reading.allocations_per_read, reading.others) == (
        3.0,
        None,
        {"clock_read_ns": 20.0},
    )


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("print('no figures')", "printed something else"),
        ("print('{}')", "printed something else"),
        ("raise SystemExit(3)", "ended with 3"),
    ],
)
async def test_program_that_fails_gives_no_figure(
    monkeypatch: pytest.MonkeyPatch, statement: str, told: str
) -> None:
    """A client that is broken must not look fast."""
    with pytest.raises(ClientFailedError, match=told):
        await measure(stand_in(monkeypatch, statement), "127.0.0.1:1", "7", 2)


async def test_missing_toolchain_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no such compiler is told which, and gets the other clients' figures."""
    monkeypatch.setitem(PROGRAMS, "stand-in", Program((("no-such-compiler",),), ("true",)))
    with pytest.raises(ClientFailedError, match="no-such-compiler"):
        await build("stand-in")


async def test_middle_is_each_figures_median(monkeypatch: pytest.MonkeyPatch) -> None:
    """One disturbed round decides nothing; what one round did not count is not made up."""
    rounds = []
    for ratio, size in ((2.0, 0), (90.0, None), (3.0, 0)):
        printed = {**PRINTED, "ratio": ratio, "bytes_per_read": size, "clock_read_ns": ratio}
        name = stand_in(monkeypatch, f"print('''{json.dumps(printed)}''')")
        rounds.append(await measure(name, "127.0.0.1:1", "7", 2))
    seen = middle(rounds)
    assert (seen.ratio, seen.bytes_per_read, seen.others) == (3.0, None, {"clock_read_ns": 3.0})
