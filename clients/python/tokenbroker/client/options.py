"""What a client can be told, and the numbers where it is told nothing."""

from dataclasses import dataclass
from typing import Final

from tokenbroker.client.token import Seconds

TIMEOUT: Final[Seconds] = 30.0
MAX_AGE: Final[Seconds] = 300.0
MAX_INSTALLS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """Checked.

    Raises:
        ValueError: one that makes no sense.
    """

    target: str
    timeout: Seconds
    max_age: Seconds
    max_installs: int

    def __post_init__(self) -> None:
        if not self.target:
            raise ValueError("target must name the broker, such as dns:///tokens:50051")
        if not self.timeout > 0:
            raise ValueError("timeout must be longer than no time")
        if not self.max_age > 0:
            raise ValueError("max_age must be longer than no time")
        if self.max_installs < 1:
            raise ValueError("max_installs must be 1 at least")


def checked_install(install: object) -> str:
    """Raises TypeError if it is no str: Envoy writes ids as numbers, too."""
    if not isinstance(install, str):
        raise TypeError(f"an install is named by a str, not by {type(install).__name__}")
    return install
