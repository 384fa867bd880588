"""The scenarios, in the order in which they run. A new one is a module here and a line in `ALL`."""

from typing import Protocol

from bench.run import Run
from bench.scenarios import (
    cache_memory,
    crowd,
    due_query,
    event_loop_lag,
    get_token_by_installs,
    get_token_fresh,
    get_token_secured,
    refreshes,
    takeover,
    telemetry,
    time_to_ready,
    watch_fan_out,
    watch_memory,
    workers,
)


class Scenario(Protocol):
    """A module of this package."""

    NAME: str
    SUMMARY: str

    async def run(self, bench: Run) -> None:
        """Measures, and adds what it found to `bench.report`."""


ALL: tuple[Scenario, ...] = (
    get_token_fresh,
    get_token_secured,
    get_token_by_installs,
    cache_memory,
    refreshes,
    crowd,
    takeover,
    event_loop_lag,
    due_query,
    time_to_ready,
    telemetry,
    workers,
    watch_fan_out,
    watch_memory,
)
