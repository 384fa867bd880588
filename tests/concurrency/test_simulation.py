"""The simulation, in small: that it runs, that a seed is a seed, and that it would notice."""

from collections.abc import Callable

import pytest

from broker.domain import claims
from tests.simulation import run
from tests.simulation.run import ALONE, simulate

SEEDS = range(len(ALONE))
# A broken broker must be found out by one of these.
ENOUGH = range(40)


@pytest.mark.parametrize("seed", SEEDS, ids=[run.Story.of(seed).faults[0] for seed in SEEDS])
def test_each_fault_alone_breaks_no_promise(seed: int) -> None:
    """P1, P2 and P3 under every fault that the simulation knows; `make simulate` does more of it."""
    assert simulate(seed).broken == []


def test_f10_same_seed_tells_the_same_story() -> None:
    """Or a failing seed could not be looked at again."""
    assert simulate(29).history == simulate(29).history


def some_seed_breaks(promise: str) -> bool:
    """Whether the simulation finds it out."""
    return any(broken.startswith(promise) for seed in ENOUGH for broken in simulate(seed).broken)


def without_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that comes with the refresh token though an earlier attempt's outcome is unknown."""
    monkeypatch.setattr(
        "tests.fakes.install_store.presentable",
        lambda install, terms, _now: install.validity is not None and terms.purpose is claims.Purpose.DUE,
    )


def without_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that another's does not keep away."""
    decide = claims.decide

    def careless(*arguments: object, **named: object) -> object:
        return decide(*arguments, **{**named, "claim_expires_at": None})  # type: ignore[arg-type]

    monkeypatch.setattr("tests.fakes.install_store.decide", careless)
    monkeypatch.setattr(
        "tests.fakes.install_store.presentable", lambda install, _terms, _now: install.validity
    )


@pytest.mark.parametrize(
    ("sabotage", "promise"), [(without_intent, "P1"), (without_claims, "P1")], ids=["no intent", "no claims"]
)
def test_simulation_notices(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None], promise: str
) -> None:
    """A check that can't fail proves nothing."""
    sabotage(monkeypatch)
    assert some_seed_breaks(promise)
