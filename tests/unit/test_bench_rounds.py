"""The benchmark's arithmetic: ratios by round, and a rate that says when it is only a lower bound."""

import pytest

from bench.load import LIMIT_SERVER, Load
from bench.rounds import Series, fastest, ratio


def load(calls: int, *, server: float | None = 1.0, generator: float = 0.2, errors: int = 0) -> Load:
    """One second's run."""
    return Load(
        calls=calls,
        seconds=1.0,
        p50_ms=1.0,
        p99_ms=2.0,
        server_cpu_seconds=server,
        generator_cpu_seconds=generator,
        calls_in_all=calls,
        errors={"grpc-status 14": errors} if errors else {},
    )


def test_a_ratio_compares_within_each_round() -> None:
    """A machine that slows down slows both: ratios of medians would mix rounds."""
    base = Series("sync", [load(1000), load(4000), load(2000)])
    subject = Series("broker", [load(800), load(2000), load(1800)])

    found = ratio(subject, base)

    assert found.by_round == [0.8, 0.5, 0.9]
    assert found.facts()["median"] == 0.8


def test_the_floor_is_the_highest_median_not_the_highest_round() -> None:
    """One lucky round must not set the floor."""
    lucky = Series("aio", [load(100), load(9000), load(200)])
    steady = Series("sync", [load(300), load(310), load(290)])

    assert fastest([lucky, steady]) is steady


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (load(1000), LIMIT_SERVER),
        (load(1000, server=0.5, generator=0.99), "generator"),
        (load(1000, server=0.5), "lower bound"),
        (load(1000, server=None), "unknown"),
    ],
    ids=["server busy", "generator busy", "neither busy", "no CPU times"],
)
def test_a_rate_names_what_limited_it(run: Load, said: str) -> None:
    """A saturated generator measures itself, and the report must say so."""
    assert said in run.limit
    assert any(said in warning for warning in Series("aio", [run]).warnings()) == (said != LIMIT_SERVER)


def test_failed_calls_are_told_beside_the_rate() -> None:
    """A server that refuses quickly would look fast."""
    assert "3 calls failed" in Series("aio", [load(10, errors=3)]).warnings()[0]
