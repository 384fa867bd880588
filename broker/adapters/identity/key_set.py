"""The issuer's keys, kept for a time and read anew: often enough to follow a rotation, and no oftener.

Anybody can make up a key id, so what callers show can't be what decides how often the issuer is asked: at most one
read is under way, and none begins within `min_interval` of the last one's beginning, whatever it brought. A key that is
not known then is refused at once.

While the source fails the keys serve on for `kept_for`, and then no longer: a key may have been taken back meanwhile.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from broker.adapters.identity.jwks import KeysNotRead, VerificationKey, parse_key_set
from broker.adapters.identity.key_sources import KeySource
from broker.adapters.identity.refusals import Refusal
from broker.domain.errors import CallerUnauthenticated
from broker.ports import Clock

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyTiming:
    """How often keys are read.

    Attributes:
        fresh_for: after that the keys are read anew, behind the callers.
        kept_for: after that they are not believed any more.
        min_interval: between the beginnings of two reads. Longer than a read may take.
    """

    fresh_for: timedelta
    kept_for: timedelta = timedelta(hours=1)
    min_interval: timedelta = timedelta(seconds=10)


URL_TIMING: Final = KeyTiming(fresh_for=timedelta(minutes=5))
FILE_TIMING: Final = KeyTiming(fresh_for=timedelta(seconds=10), min_interval=timedelta(seconds=1))


class KeySet:
    """The keys of one source."""

    def __init__(self, source: KeySource, clock: Clock, timing: KeyTiming = URL_TIMING) -> None:
        self._source = source
        self._clock = clock
        self._timing = timing
        self._keys: Mapping[str, VerificationKey] = {}
        self._read_at = _LONG_AGO
        self._tried_at = _LONG_AGO
        self._reading: asyncio.Task[None] | None = None
        self._revision = 0

    @property
    def revision(self) -> int:
        """Another number after every change of the keys: what was verified by the old ones is to be verified again."""
        return self._revision

    @property
    def is_usable(self) -> bool:
        """Whether there are keys, and not too old ones."""
        return self._clock.now() - self._read_at < self._timing.kept_for

    async def load(self) -> bool:
        """Read the keys unless that was just tried; whether there are any to go by. At the start, to fail early."""
        await self._read_again()
        return self.is_usable

    async def find(self, kid: str) -> VerificationKey:
        """The key of that id. Waits for a read only where there is none, and at most for one.

        Raises:
            CallerUnauthenticated: there is no such key, or no key set to say so.
        """
        if not self.is_usable or kid not in self._keys:
            await self._read_again()
        elif self._clock.now() - self._read_at >= self._timing.fresh_for:
            self._start_reading()
        if not self.is_usable:
            raise CallerUnauthenticated(Refusal.KEYS_UNAVAILABLE)
        key = self._keys.get(kid)
        if key is None:
            raise CallerUnauthenticated(Refusal.UNKNOWN_KEY)
        return key

    async def close(self) -> None:
        """End the read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _read_again(self) -> None:
        reading = self._start_reading()
        if reading is not None:
            # A caller that goes leaves the read to the others, and one read's end is no caller's.
            await asyncio.wait({reading})

    def _start_reading(self) -> asyncio.Task[None] | None:
        """The read under way, or a new one; None if it is too early for that."""
        now = self._clock.now()
        if self._reading is None and now - self._tried_at >= self._timing.min_interval:
            self._tried_at = now
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._end_reading)
        return self._reading

    def _end_reading(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("caller_keys.read_broke", exc_info=error)

    async def _read(self) -> None:
        began_at = self._clock.now()
        try:
            keys = parse_key_set(await self._source.read())
        except KeysNotRead as error:
            log.warning("caller_keys.not_read", kind=error.kind, serving_old_ones=self.is_usable)
            return
        self._read_at = began_at
        if keys != self._keys:
            self._keys = keys
            self._revision += 1
            log.info("caller_keys.changed", keys=len(keys))
