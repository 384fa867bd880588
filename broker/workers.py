"""The supervisor of several workers: starts them, gives them their doors, restarts whoever dies, ends with them.

Theory of operation. A worker is a whole broker in a process of its own, started by the interpreter anew and never
forked: gRPC's and Postgres' libraries have threads and locks that do not outlive a fork. Each worker listens at both
doors itself, and the kernel deals new connections out among those who do (doors.py). So the supervisor is on no call's
way: it holds no connection and reads no settings, hence no secret beyond its environment. What it has to know the first
worker tells it (worker.py) when it has found all settings to be good; only then do others start, so bad ones are told
once, by the one who would have served.

The pod stays ready: while anybody listens, a worker that starts does so when it can serve, and not before. So neither a
probe nor a call reaches one that can't. Where nobody listens it does so at once, and tells what it waits for.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from broker.doors import GRPC_ADDRESS, HTTP_ADDRESS, Doors, held
from broker.process_hardening import close_process_to_onlookers
from broker.signals import SECOND_SIGNAL_EXIT
from broker.telemetry.logs import configure_logging
from broker.worker import Refusal, Wishes, doors_line, says_that_it_listens

__all__ = ["supervise"]

log = structlog.get_logger(__name__)

# -P: not from the folder that the operator happens to stand in. What the workers print goes where the supervisor's goes.
COMMAND: Final = (sys.executable, "-P", "-m", "broker", "serve", "--worker")

# After a death; doubled with each in a row, so that one costs next to nothing and many leave others the machine.
FIRST_PAUSE: Final = timedelta(milliseconds=100)
LONGEST_PAUSE: Final = timedelta(seconds=30)
# Who has listened for so long begins a new row.
STEADY: Final = timedelta(minutes=1)
# In a row, of which none came to listen, while nobody else does: then the orchestrator shall know.
FRUITLESS_STARTS: Final = 5
# What a worker may take beyond its lame duck and its drain: to close what is open, and to send traces and metrics to a
# collector that is away (OTEL_EXPORTER_OTLP_TIMEOUT, 10 s each).
CLOSING: Final = timedelta(seconds=25)

_OFTEN: Final = 16  # deaths; by then the pause is the longest
_SIGNALLED: Final = 128  # what shells add to the number of the signal that has ended a process
_KILLED: Final = 1


@dataclass
class _Seat:
    """A worker's place, taken by one process after the other.

    Attributes:
        listens: it does, or was told to.
        listening_since: by time.monotonic(); None before.
        has_served: some process of this seat has come to listen.
        deaths: in a row.
        fruitless: starts in a row that have not come to listen.
    """

    index: int
    process: asyncio.subprocess.Process | None = None
    listens: bool = False
    listening_since: float | None = None
    has_served: bool = False
    deaths: int = 0
    fruitless: int = 0

    def came_up(self) -> None:
        """Its process listens."""
        self.listens = self.has_served = True
        self.listening_since = time.monotonic()

    def ended(self) -> None:
        """Its process is gone."""
        since, self.listening_since = self.listening_since, None
        self.process, self.listens = None, False
        self.fruitless = self.fruitless + 1 if since is None else 0
        steady = since is not None and time.monotonic() - since >= STEADY.total_seconds()
        self.deaths = 1 if steady else self.deaths + 1

    def pause(self) -> timedelta:
        """How long to wait before the next start."""
        return min(FIRST_PAUSE * (1 << (min(self.deaths, _OFTEN) - 1)), LONGEST_PAUSE)


def supervise(count: int, environ: Mapping[str, str]) -> int:
    """Run `count` workers until SIGTERM or SIGINT, whose second ends all at once; returns the exit status."""
    close_process_to_onlookers()
    configure_logging("auto", "info")  # until a worker has told what the settings say
    return asyncio.run(_Supervisor(count, environ).run())


class _Supervisor:
    def __init__(self, count: int, environ: Mapping[str, str]) -> None:
        self._seats = [_Seat(index) for index in range(count)]
        self._environ = environ
        self._doors: Doors | None = None
        self._holders: list[socket.socket] = []
        self._end_seconds = 0.0
        self._settings_are_good = asyncio.Event()
        self._ending = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Until asked to stop, or until there is no hope."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        keepers = [asyncio.create_task(self._keep(seat)) for seat in self._seats]
        ending = asyncio.create_task(self._ending.wait())
        # A keeper ends first only by a bug. Then the workers are not left alone either.
        await asyncio.wait([ending, *keepers], return_when=asyncio.FIRST_COMPLETED)
        self._ending.set()
        await self._end_workers(keepers)
        for holder in self._holders:
            holder.close()
        for keeper in keepers:
            keeper.result()
        return self._status

    def _asked_to_stop(self) -> None:
        if self._ending.is_set():
            self._signal_all(signal.SIGKILL)
            os._exit(SECOND_SIGNAL_EXIT)
        log.info("workers.stopping", workers=len(self._seats))
        self._end(0)

    def _end(self, status: int) -> None:
        self._status = status
        self._ending.set()
        self._settings_are_good.set()  # who waits for it shall see that all is over

    async def _end_workers(self, keepers: Sequence["asyncio.Task[None]"]) -> None:
        """Let them drain for as long as they may."""
        self._signal_all(signal.SIGTERM)
        seconds = self._end_seconds + CLOSING.total_seconds()
        _, late = await asyncio.wait(keepers, timeout=seconds)
        if late:
            log.error("workers.killed", workers=len(late), after_seconds=seconds)
            self._status = self._status or _KILLED
            self._signal_all(signal.SIGKILL)
            await asyncio.wait(late)

    def _signal_all(self, number: signal.Signals) -> None:
        for seat in self._seats:
            if seat.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    seat.process.send_signal(number)

    async def _keep(self, seat: _Seat) -> None:
        """One process after the other; of the first seat before all others."""
        if seat is not self._seats[0]:
            await self._settings_are_good.wait()
        while not self._ending.is_set():
            status = await self._live(seat)
            if self._ending.is_set():
                return
            if self._is_hopeless(seat, status):
                self._give_up(seat, status)
                return
            seconds = seat.pause().total_seconds()
            log.warning("worker.ended", worker=seat.index, status=status, restarts_in_seconds=seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), seconds)

    def _give_up(self, seat: _Seat, status: int) -> None:
        if any(
            each.has_served for each in self._seats
        ):  # else what the worker itself has said is all there is to say
            log.error("worker.given_up", worker=seat.index, status=status)
        self._end(status if status >= 0 else _SIGNALLED - status)

    def _is_hopeless(self, seat: _Seat, status: int) -> bool:
        """It has said why it can't come up at all; or it comes up no more, and nobody else serves.

        Where others serve, one that has served before is tried on and on: what has happened since, such as a policy
        that was broken, keeps it away and need not end them.
        """
        nobody_serves = not any(each.listens for each in self._seats)
        return (status > 0 and not seat.has_served) or (nobody_serves and seat.fruitless >= FRUITLESS_STARTS)

    async def _live(self, seat: _Seat) -> int:
        """One process, from start to end; returns its exit status, or the negative number of a signal."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = seat.process = await asyncio.create_subprocess_exec(
                *COMMAND,
                str(seat.index),
                stdin=theirs.fileno(),
                env=self._environ,
                # So that a Ctrl-C reaches the supervisor alone; for a worker it would be the second signal.
                start_new_session=True,
            )
            theirs.close()  # Now the worker's end is all that keeps the line open.
            if self._ending.is_set():
                process.terminate()
            answering = asyncio.create_task(self._answer(seat, process.pid, ours))
            try:
                return await process.wait()
            finally:
                seat.ended()
                answering.cancel()
                await asyncio.wait([answering])
                if not answering.cancelled():
                    answering.result()  # a bug of ours ends us

    async def _answer(self, seat: _Seat, pid: int, line: socket.socket) -> None:
        """Hear what a worker wishes, tell it its doors, hear that it listens."""
        reader, writer = await asyncio.open_connection(sock=line)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            wishes = await reader.readline()
            if not wishes:
                return
            writer.write(self._reply(seat, Wishes.read(wishes)))
            if says_that_it_listens(await reader.readline()):
                seat.came_up()
                log.info("worker.listens", worker=seat.index, pid=pid)
            await reader.read()  # until its end; ours must stay open as long

    def _reply(self, seat: _Seat, wishes: Wishes) -> bytes:
        if self._doors is None:
            self._end_seconds = wishes.end_seconds
            configure_logging(wishes.log_format, wishes.log_level)
            doors = self._hold(wishes)
            if isinstance(doors, Refusal):
                return doors.line()
            self._doors = doors
            self._settings_are_good.set()
        when_ready = any(each.listens for each in self._seats)
        # To tell what they wait for, one is enough of those that can't serve yet: from here on it counts.
        seat.listens = not when_ready
        return doors_line(replace(self._doors, when_ready=when_ready))

    def _hold(self, wishes: Wishes) -> Doors | Refusal:
        """Keep both doors for the workers as long as this process lives."""
        ports = []
        for setting, address in ((GRPC_ADDRESS, wishes.grpc), (HTTP_ADDRESS, wishes.http)):
            try:
                holder = held(address)
            except OSError as error:
                return Refusal(setting, address, error.errno or 0)
            self._holders.append(holder)
            ports.append(int(holder.getsockname()[1]))
        grpc_port, http_port = ports
        return Doors(wishes.grpc.at(grpc_port), wishes.http.at(http_port), shared=True)
