"""What a shell is told when somebody presses TAB behind an option. Asks nobody: a broker may be far away, or down."""

from broker.domain.states import InstallState


def states(incomplete: str) -> list[str]:
    """The states of an install that begin so."""
    return [state.name for state in InstallState if state.name.startswith(incomplete.upper())]
