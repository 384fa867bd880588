"""The audit trail: records gather while a batch is being written, and go together in the next (group commit).

Theory of operation
-------------------
A call's record has to be in every sink before its answer leaves. One write per record would cost the hot path
more than all else, and a disk that hangs must never hang the event loop. So one thread writes, and while it
does the next batch gathers; where calls overlap, it waits a moment for others (crowd.py).

A batch lands, fails or is overdue:

- It lands: its callers go on.
- It fails: its callers are refused, and so is nobody else. What the sinks hold now is uncertain (some lines,
  one of them torn, in one sink and not in the other). So the chain is broken off, and the next batch opens a
  new one, whose first line says which chain it follows, up to where that one is known to be whole, and why.
  It is tried by the next record, or by itself after a while, so that readiness comes back without traffic.
- It is overdue: its callers are refused, whoever gathers too, and everybody from then on, at once, until the
  write comes back. If it comes back well the chain goes on: the trail then tells of tokens that were not
  handed out. The other way round never happens.

A record whose caller has gone is written all the same: it may have been about to be answered.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from broker import __version__
from broker.adapters.audit.chain import (
    CHAIN_ID_BYTES,
    MAX_RECORD_CHARACTERS,
    NO_BREAK,
    Break,
    Chain,
    Origin,
    record_members,
)
from broker.adapters.audit.crowd import GATHERING, Crowd
from broker.adapters.audit.keys import AuditKeys
from broker.adapters.audit.sinks import Sink, SinkThread
from broker.domain.audit import AuditRecord
from broker.domain.errors import AuditUnavailable
from broker.domain.secret import Secret
from broker.telemetry import metrics

# How long a write may take: longer than a disk's hiccup, shorter than callers wait.
PATIENCE: Final = timedelta(seconds=2)
# How long records may stand without a signature behind them.
CHECKPOINT_INTERVAL: Final = timedelta(seconds=5)
# How soon a sink that has failed is tried again when no record does.
RETRY_INTERVAL: Final = timedelta(seconds=1)
# How soon a caller who was refused should come back.
RETRY_REFUSED: Final = timedelta(seconds=1)
# How many records may gather while a batch is being written: many seconds' worth, and some megabytes.
MAX_WAITING: Final = 8_192

_NOT_OPEN: Final = "the audit trail is not open"

log = structlog.get_logger(__name__)


def _machine_time() -> datetime:
    return datetime.now(UTC)


class AuditTrail:
    """The AuditLog port. Lives on one event loop, from `start` to `close`.

    Attributes:
        problem: what is wrong with a sink now, for the operator; None if nothing.
    """

    def __init__(
        self,
        keys: AuditKeys,
        sinks: Sequence[Sink],
        *,
        patience: timedelta = PATIENCE,
        checkpoint_interval: timedelta = CHECKPOINT_INTERVAL,
        retry_interval: timedelta = RETRY_INTERVAL,
        gathering: timedelta = GATHERING,
        max_waiting: int = MAX_WAITING,
        machine_time: Callable[[], datetime] = _machine_time,
    ) -> None:
        """Opens nothing yet."""
        self.problem: str | None = _NOT_OPEN
        self._keys = keys
        self._thread = SinkThread(sinks)
        self._patience = patience
        self._checkpoint_interval = checkpoint_interval
        self._retry_interval = retry_interval
        self._gathering_seconds = gathering.total_seconds()
        self._max_waiting = max_waiting
        self._machine_time = machine_time
        self._origin = Origin(socket.gethostname(), os.getpid(), __version__, keys.public_key_id)
        self._chain: Chain | None = None
        self._known = NO_BREAK
        self._gathering = _Batch()
        self._crowd = Crowd()
        self._flight: _Batch | None = None
        self._begun_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._upkeep: asyncio.TimerHandle | None = None
        self._is_open = self._is_overdue = self._owes_checkpoint = False

    async def start(self) -> None:
        """Open the first chain. A sink that fails is a `problem`, and no error: it may come back."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._is_open = True
        self._begin()
        await self._until_idle()

    @property
    def pending(self) -> int:
        """How many records wait to be written, or are being."""
        return len(self._gathering.records) + (len(self._flight.records) if self._flight is not None else 0)

    async def write(self, record: AuditRecord) -> None:
        if not self._is_open or self._is_overdue or len(self._gathering.records) >= self._max_waiting:
            raise _refusal()
        members = record_members(record)
        if len(members) > MAX_RECORD_CHARACTERS:
            raise _refusal()
        joined = self._gathering.join(members, self._loop)
        if self._flight is None and len(self._gathering.records) in {1, self._crowd.expected}:
            self._begin_soon()
        await joined

    def fingerprint(self, token: Secret) -> str:
        return self._keys.fingerprint(token)

    async def close(self) -> None:
        """Take no more records, write those that wait, and close the chain. Waits for three writes at most."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            await self._until_idle()
            self._set_upkeep(None)
            if self._flight is None:
                self._begin(closing=True)
                await self._until_idle()
        finally:
            self._thread.end()
            self.problem = _NOT_OPEN

    async def _until_idle(self) -> None:
        """Wait until nothing is being written, or what is has become overdue."""
        while self._flight is not None and not self._is_overdue:
            landed = self._loop.create_future()
            self._flight.waiters.append(landed)
            with contextlib.suppress(AuditUnavailable):
                await landed

    def _begin_soon(self) -> None:
        """Begin a batch with who is there, and comes in this turn of the loop; or wait for who is expected."""
        batch = self._gathering
        if len(batch.records) >= self._crowd.expected:
            self._loop.call_soon(self._begin_gathered, batch)
        else:
            self._loop.call_later(self._gathering_seconds, self._begin_gathered, batch)

    def _begin_gathered(self, batch: "_Batch") -> None:
        if self._flight is None and batch is self._gathering:
            self._crowd.begins(len(batch.records))
            self._begin()

    def _begin(self, *, closing: bool = False) -> None:
        """Hand what has gathered, and what the chain itself needs, to the thread."""
        self._flight, self._gathering = self._gathering, _Batch()
        self._begun_at = self._loop.time()
        self._alarm = self._loop.call_later(self._patience.total_seconds(), self._late)
        self._thread.write(
            self._lines(self._flight.records, closing=closing).encode(), self._landed_in_thread
        )

    def _lines(self, records: Sequence[str], *, closing: bool) -> str:
        now, opening, ending, chain = self._machine_time(), "", "", self._chain
        if chain is None:
            chain = self._chain = Chain(secrets.token_hex(CHAIN_ID_BYTES), self._keys.sign)
            opening = chain.opened(now, self._origin, self._known)
        lines = chain.records(records, now)
        if closing:
            ending = chain.closed(now)
        elif self._owes_checkpoint and chain.unsigned:
            ending = chain.checkpoint(now)
        self._owes_checkpoint = False
        return opening + lines + ending

    def _landed_in_thread(self, failure: str | None) -> None:
        # A write may come back after the loop's end: then nobody waits for it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._landed, failure)

    def _landed(self, failure: str | None) -> None:
        """A write has come back."""
        batch, self._flight = self._flight, None
        if failure is None:
            metrics.audit_writes.record(self._loop.time() - self._begun_at)
        if self._alarm is not None:
            self._alarm.cancel()
        self._is_overdue = False
        self._tell(failure)
        if failure is None:
            self._stands()
        else:
            self._breaks_off(failure)
        if batch is not None:
            batch.end(refused=failure is not None)
        if self._gathering.records:
            self._crowd.overlaps()
            self._begin_soon()

    def _late(self) -> None:
        """A write has not come back in time: nobody waits for it any longer. Only its return lets others in."""
        self._is_overdue = True
        self._tell(f"{self._thread.names}: has not answered for {self._patience.total_seconds():g} s")
        for batch in (self._flight, self._gathering):
            if batch is not None:
                batch.end(refused=True)
        self._gathering = _Batch()

    def _stands(self) -> None:
        if self._chain is not None:
            self._known = Break(self._chain.id, self._chain.seq, self._chain.hash)
            if self._chain.unsigned and self._upkeep is None:
                self._set_upkeep(self._checkpoint_interval)

    def _breaks_off(self, reason: str) -> None:
        self._chain = None
        self._known = self._known._replace(reason=reason)
        self._set_upkeep(self._retry_interval)

    def _set_upkeep(self, interval: timedelta | None) -> None:
        """Look after the chain in `interval`, though nobody calls; None: don't."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            self._upkeep = None
        if interval is not None and self._is_open:
            self._upkeep = self._loop.call_later(interval.total_seconds(), self._look_after_chain)

    def _look_after_chain(self) -> None:
        """Sign what is not signed yet, or try again to open a chain."""
        self._upkeep = None
        self._owes_checkpoint = True
        if self._flight is None:
            self._begin()

    def _tell(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            log.info("audit.available", sinks=self._thread.names)
        else:
            log.error("audit.unavailable", problem=problem)


class _Batch:
    """Records, and who waits for them: a caller each, until it is cancelled."""

    __slots__ = ("records", "waiters")

    def __init__(self) -> None:
        self.records: list[str] = []
        self.waiters: list[asyncio.Future[None]] = []

    def join(self, record: str, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        waiter = loop.create_future()
        self.records.append(record)
        self.waiters.append(waiter)
        return waiter

    def end(self, *, refused: bool) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                if refused:
                    waiter.set_exception(_refusal())
                else:
                    waiter.set_result(None)


def _refusal() -> AuditUnavailable:
    return AuditUnavailable("the call can't be put on record now, so it is not done", RETRY_REFUSED)
