"""States: the table is total, and the ways out of each state are the promised ones."""

import itertools

import pytest

from broker.domain.states import TRANSITIONS, InstallEvent, InstallState, after


def test_table_has_every_state_and_event() -> None:
    """An event that no row foresees would fail in the middle of a transaction."""
    assert set(TRANSITIONS) == set(itertools.product(InstallState, InstallEvent))


@pytest.mark.parametrize("state", InstallState)
def test_stored_pair_makes_active_from_everywhere(state: InstallState) -> None:
    """P2: no state is a dead end."""
    assert after(state, InstallEvent.PAIR_STORED) is InstallState.ACTIVE


@pytest.mark.parametrize("state", InstallState)
def test_uninstall_ends_every_state(state: InstallState) -> None:
    """A tombstone, whatever stood there."""
    assert after(state, InstallEvent.UNINSTALLED) is InstallState.UNINSTALLED


def test_refused_mint_does_not_revive_a_tombstone() -> None:
    """A webhook after an uninstall that Envoy denies leaves the tombstone."""
    assert after(InstallState.UNINSTALLED, InstallEvent.MINT_REFUSED) is InstallState.UNINSTALLED


@pytest.mark.parametrize("state", [InstallState.PROVISIONAL, InstallState.ACTIVE])
def test_refused_mint_asks_for_the_company_s_consent(state: InstallState) -> None:
    """F12: nothing that the broker can do by itself helps."""
    assert after(state, InstallEvent.MINT_REFUSED) is InstallState.REAUTHORIZATION_REQUIRED


def test_values_are_what_is_stored() -> None:
    """Renaming one would orphan every row; the migration's CHECK has the same words."""
    assert {state.value for state in InstallState} == {
        "provisional",
        "active",
        "reauthorization_required",
        "uninstalled",
    }
