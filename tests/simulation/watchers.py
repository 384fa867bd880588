"""Who watches: one stream to each replica, opened again as a client would do it; and what it may never be told."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from broker.domain.callers import Operation
from broker.domain.errors import BrokerError, InstallNotFound
from broker.domain.installs import Holding
from broker.domain.states import InstallState
from broker.service.token_cache import Entry
from broker.service.watch import Silence, Told, Watch
from tests.fakes.caller import SOMEBODY
from tests.simulation.people import judge
from tests.simulation.process import STALENESS, Process
from tests.simulation.world import World

PAUSE: Final = 1.0
# Where the hint was lost.
TOLD_WITHIN: Final = STALENESS + timedelta(seconds=5)


class Watcher:
    """Attributes: told: the newest token of each install, as it was told, by whichever process stood there."""

    def __init__(
        self, world: World, processes: Sequence[Process], number: int, installs: Sequence[str]
    ) -> None:
        self.told: dict[str, Holding] = {}
        self._world = world
        self._processes = processes
        self._number = number
        self._installs = installs

    @property
    def process(self) -> Process:
        """Whose stream it reads."""
        return self._processes[self._number]

    async def watch(self) -> None:
        """Open one stream after the other, until cancelled."""
        while True:
            stream = self.process.begin(self._stream(self.process))
            try:
                await asyncio.wait({stream})
            finally:
                stream.cancel()
            await asyncio.sleep(PAUSE)

    async def _stream(self, process: Process) -> None:
        use_cases = process.use_cases
        call = use_cases.guard.begin(SOMEBODY, Operation.WATCH_TOKENS)
        with suppress(BrokerError):
            async with use_cases.watch_tokens.open(call) as watch:
                await self._read(watch)

    async def _read(self, watch: Watch) -> None:
        for install_id in self._installs:
            self._subscribe(watch, install_id)
        again: list[asyncio.TimerHandle] = []
        try:
            while (told := await watch.next()) is not Silence.OVER:
                if isinstance(told, Silence):
                    continue
                looked_at = told if isinstance(told, Told) else await watch.look(told)
                if looked_at is None or looked_at.key is None:
                    continue
                install_id = looked_at.key.install_id
                if isinstance(looked_at.what, InstallNotFound):
                    loop = asyncio.get_running_loop()
                    again.append(loop.call_later(PAUSE, self._subscribe, watch, install_id))
                self._hear(install_id, looked_at.what)
        finally:
            for timer in again:
                timer.cancel()

    def _subscribe(self, watch: Watch, install_id: str) -> None:
        known = self.told.get(install_id)
        watch.subscribe("", install_id, known.install.generation if known is not None else 0)

    def _hear(self, install_id: str, what: Entry | BrokerError) -> None:
        if isinstance(what, BrokerError):
            if isinstance(what, InstallNotFound):
                self.told.pop(install_id, None)
            return
        holding, known = what.holding, self.told.get(install_id)
        judge(self._world, self.process, install_id, holding.access_token)
        if known is not None and known.install.generation > holding.install.generation:
            self._world.breaks("watch", f"{self.process.name} told {install_id} of an older generation")
        self.told[install_id] = holding

    def judge(self) -> None:
        """Some time after all is quiet, a watcher has been told of whatever token has stood there for a while."""
        for install_id in self._installs:
            install = self._world.table.rows[self._world.key(install_id)].install
            since = self._world.now() - install.updated_at
            if install.state is not InstallState.ACTIVE or install.rejected or since < TOLD_WITHIN:
                continue
            known = self.told.get(install_id)
            if known is None or known.install.generation < install.generation:
                self._world.breaks("watch", f"{self.process.name} did not tell {install_id} of its token")
