"""The states of an install, as a table. `docs/concepts.md` draws its diagram from here."""

from enum import StrEnum
from typing import Final


class InstallState(StrEnum):
    """What an install can do. The values are stored."""

    PROVISIONAL = "provisional"
    ACTIVE = "active"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    UNINSTALLED = "uninstalled"


# In these a token may be handed out, and is kept fresh.
SERVING_STATES: Final = frozenset({InstallState.PROVISIONAL, InstallState.ACTIVE})


class InstallEvent(StrEnum):
    """What can happen to an install once it is known."""

    PAIR_STORED = "pair stored"
    MINT_REFUSED = "mint refused"
    QUARANTINED = "a pair for another company"
    UNINSTALLED = "uninstalled"


_P, _A = InstallState.PROVISIONAL, InstallState.ACTIVE
_R, _U = InstallState.REAUTHORIZATION_REQUIRED, InstallState.UNINSTALLED

# Only an attempt that a verified webhook or an operator started can store a pair in a tombstone: see claims.py.
TRANSITIONS: Final[dict[tuple[InstallState, InstallEvent], InstallState]] = {
    (_P, InstallEvent.PAIR_STORED): _A,
    (_A, InstallEvent.PAIR_STORED): _A,
    (_R, InstallEvent.PAIR_STORED): _A,
    (_U, InstallEvent.PAIR_STORED): _A,
    (_P, InstallEvent.MINT_REFUSED): _R,
    (_A, InstallEvent.MINT_REFUSED): _R,
    (_R, InstallEvent.MINT_REFUSED): _R,
    (_U, InstallEvent.MINT_REFUSED): _U,
    (_P, InstallEvent.QUARANTINED): _R,
    (_A, InstallEvent.QUARANTINED): _R,
    (_R, InstallEvent.QUARANTINED): _R,
    (_U, InstallEvent.QUARANTINED): _U,
    (_P, InstallEvent.UNINSTALLED): _U,
    (_A, InstallEvent.UNINSTALLED): _U,
    (_R, InstallEvent.UNINSTALLED): _U,
    (_U, InstallEvent.UNINSTALLED): _U,
}


def after(state: InstallState, event: InstallEvent) -> InstallState:
    """The state that follows. Every pair of state and event stands in the table."""
    return TRANSITIONS[state, event]
