"""Whether this replica should be sent calls, and what an operator should know of it.

It is ready once it has seen its database with the right schema, until it is asked to stop. A database that goes away
later does not make it unready: it goes for every replica at once, and each still serves the tokens in its memory, which
no caller could reach any more behind a balancer that asks for readiness. It is a remark, as is an app whose circuit is
open (docs/adr/0014). A record that can't be written does: nothing is handed out here, and another replica may do better.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

import structlog

from broker.domain.errors import Overloaded
from broker.ports import Clock

log = structlog.get_logger(__name__)

INTERVAL: Final = timedelta(seconds=1)
LOOK_INTERVAL: Final = timedelta(milliseconds=20)


class Readiness:
    """The verdict, and the task that keeps it up to date."""

    def __init__(
        self,
        *,
        database_problem: Callable[[], Awaitable[str | None]],
        open_circuits: Callable[[], Mapping[str, str]],
        door_shut: Callable[[], str | None],
        door_remarks: Callable[[], Sequence[str]],
        on_change: Callable[[bool], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """What it asks, and whom it tells.

        `database_problem` may raise Overloaded. `open_circuits`: the kinds of faults by plugin id. `door_shut`: why no
        caller can be served. `on_change` is told whether the replica is ready.
        """
        self._database_problem = database_problem
        self._open_circuits = open_circuits
        self._door_shut = door_shut
        self._door_remarks = door_remarks
        self._on_change = on_change
        self._clock = clock
        self._database: str | None = None
        self._has_been_ready = self._is_stopping = self._was_ready = False

    @property
    def problem(self) -> str | None:
        """Why the replica is not ready; None if it is."""
        if self._is_stopping:
            return "stopping"
        if not self._has_been_ready:
            return self._database or self._door_shut() or "starting"
        return self._door_shut()

    def remarks(self) -> list[str]:
        """What is wrong though the replica is ready."""
        circuits = [
            f"Envoy is not being called for app {plugin_id} ({kind})"
            for plugin_id, kind in sorted(self._open_circuits().items())
        ]
        database = [self._database] if self._database else []
        return [*database, *self._door_remarks(), *circuits]

    def stopping(self) -> None:
        """From now on this replica is not ready."""
        self._is_stopping = True

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            try:
                database = await self._database_problem()
            except Overloaded:
                database = self._database  # Busy is not away: the last verdict stands.
            except Exception:
                log.exception("broker.readiness_failed")
                database = "the database could not be asked; the log says why"
            if database is not None and database != self._database:
                event = "broker.database_problem" if self._has_been_ready else "broker.not_ready"
                log.warning(event, problem=database)
            elif database is None and self._database is not None:
                log.info("broker.database_is_back")
            self._database = database
            self._has_been_ready |= database is None and self._door_shut() is None
            await self._tell()
            await self._clock.sleep(INTERVAL)

    async def _tell(self) -> None:
        problem = self.problem
        if (problem is None) == self._was_ready or self._is_stopping:
            return
        self._was_ready = problem is None
        if problem is None:
            log.info("broker.ready")
        else:
            log.error("broker.not_ready_any_more", problem=problem)
        await self._on_change(self._was_ready)

    async def until_ready(self) -> None:
        """Wait until the replica is ready."""
        while self.problem is not None:
            await self._clock.sleep(LOOK_INTERVAL)
