"""Whether this replica should be sent calls, and what an operator should know of it.

It is ready once it has seen its database with the right schema, until it is asked to stop. A database that goes away
later does not make it unready: it goes for every replica at once, and each still serves the tokens in its memory, which
no caller could reach any more behind a balancer that asks for readiness. It is a remark, as is an app whose circuit is
open (docs/adr/0014).
"""

from collections.abc import Awaitable, Callable, Mapping
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
        on_ready: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """`database_problem` may raise Overloaded. `open_circuits`: the kinds of faults by plugin id."""
        self._database_problem = database_problem
        self._open_circuits = open_circuits
        self._on_ready = on_ready
        self._clock = clock
        self._database: str | None = None
        self._has_been_ready = self._is_stopping = False

    @property
    def problem(self) -> str | None:
        """Why the replica is not ready; None if it is."""
        if self._is_stopping:
            return "stopping"
        return None if self._has_been_ready else self._database or "starting"

    def remarks(self) -> list[str]:
        """What is wrong though the replica is ready."""
        circuits = [
            f"Envoy is not being called for app {plugin_id} ({kind})"
            for plugin_id, kind in sorted(self._open_circuits().items())
        ]
        return ([self._database] if self._database else []) + circuits

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
            if database is None and self.problem is not None and not self._is_stopping:
                self._has_been_ready = True
                log.info("broker.ready")
                await self._on_ready()
            await self._clock.sleep(INTERVAL)

    async def until_ready(self) -> None:
        """Wait until the replica is ready."""
        while self.problem is not None:
            await self._clock.sleep(LOOK_INTERVAL)
