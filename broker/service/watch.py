"""A watch: one stream of WatchTokens, what its caller knows of each install, and what it is told next.

News of an install only marks it; what is told is made when the stream takes it, of what is known by then. So a caller
that reads slowly gets the latest and no backlog, and a watch is never larger than what it is subscribed to.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from typing import Final, NamedTuple

import structlog

from broker.domain.apps import Apps
from broker.domain.errors import (
    BrokerError,
    InstallNotFound,
    InvalidField,
    Overloaded,
    ProviderUnavailable,
    RetryableError,
)
from broker.domain.identifiers import InstallKey, checked_id
from broker.ports import Clock
from broker.service.calls import Call
from broker.service.changes import Changes
from broker.service.look_ups import LookUps, refuse_unserving
from broker.service.token_cache import Entry, TokenCache

log = structlog.get_logger(__name__)

# A stream says that it is alive so often. It costs 10,000 idle streams a few hundred messages a second.
HEARTBEAT: Final = timedelta(seconds=30)
# A look may have to wait for others; meanwhile nothing else can be told, no heartbeat either.
LOOK_PATIENCE: Final = timedelta(seconds=10)
MAX_SUBSCRIPTIONS: Final = 10_000
# Of requests that were refused, and whose sender does not read: the newest so many are told.
MAX_REFUSALS: Final = 100
RETRY_AFTER: Final = timedelta(seconds=1)
# What is known of an install, for all watchers together, may be looked up by so many at once: they must not take every
# database connection from those who wait for a token.
LOOKS_AT_ONCE: Final = 8


class Silence(Enum):
    """Why there is nothing to tell. HEARTBEAT: the caller should hear that the stream is alive. OVER: it should end."""

    HEARTBEAT = "heartbeat"
    OVER = "over"


class Told(NamedTuple):
    """What a watcher is told of an install: a token (once that is on record), or why there is none.

    Attributes: key: None where the caller did not name an install.
    """

    key: InstallKey | None
    what: Entry | BrokerError


class Knowledge(NamedTuple):
    """Where watches learn what there is. `looks`: LOOKS_AT_ONCE."""

    apps: Apps
    cache: TokenCache
    changes: Changes
    look_ups: LookUps
    looks: asyncio.Semaphore
    clock: Clock

    async def of(self, key: InstallKey, call: Call) -> Entry:
        """What is known of an install, looked up where that is too old; `call` may have it.

        Raises:
            InstallNotFound, StoreUnavailable, SealBroken.
        """
        entry = self.cache.get(key)
        if entry is not None:
            call.require(entry.holding.install)
        if entry is None or self.clock.now() >= entry.check_at:
            async with self.looks:
                entry, _ = await self.look_ups.known(key)
        call.require(entry.holding.install)
        return entry


class Watch:
    """One stream, of one caller. Its life and heartbeats are on the event loop's clock: they concern a connection."""

    __slots__ = (
        "_call",
        "_ends_by",
        "_heartbeat_at",
        "_knowledge",
        "_known",
        "_loop",
        "_marked",
        "_on_token",
        "_refused",
        "_something",
        "_until",
    )

    def __init__(
        self, knowledge: Knowledge, call: Call, life: timedelta, on_token: Callable[[], None]
    ) -> None:
        """`on_token`: is called for each token that is told."""
        self._knowledge = knowledge
        self._call = call
        self._on_token = on_token
        # By install: the newest generation that the caller knows, and what it was told instead of a token since.
        self._known: dict[InstallKey, tuple[int, type[BrokerError] | None]] = {}
        self._marked: dict[InstallKey, None] = {}
        self._refused: list[Told] = []
        self._something = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + life.total_seconds()
        self._heartbeat_at = self._loop.time() + HEARTBEAT.total_seconds()
        self._ends_by: BrokerError | None = None

    def __len__(self) -> int:
        return len(self._known)

    def subscribe(self, plugin_id: str, install_id: str, known_generation: int) -> None:
        """Begin to watch an install. Whatever is wrong with that is told by the stream."""
        key: InstallKey | None = None
        try:
            key = self._key(plugin_id, install_id)
            if known_generation < 0:
                raise InvalidField("known_generation", "must not be negative")
            if key not in self._known and len(self._known) >= MAX_SUBSCRIPTIONS:
                raise Overloaded(f"a stream watches at most {MAX_SUBSCRIPTIONS} installs", RETRY_AFTER)
        except BrokerError as error:
            self._refuse(Told(key, error))
            return
        self._known[key] = (known_generation, None)
        self._knowledge.changes.follow(key, self)
        self.news(key)

    def unsubscribe(self, plugin_id: str, install_id: str) -> None:
        """Watch it no more. One that is not watched is no error: it may have ended by itself."""
        try:
            self._forget(self._key(plugin_id, install_id))
        except BrokerError as error:
            self._refuse(Told(None, error))

    def news(self, key: InstallKey) -> None:
        """See Follower."""
        self._marked[key] = None
        self._something.set()

    def judge_again(self) -> None:
        """The policy has changed."""
        self._marked.update(dict.fromkeys(self._known))
        self._something.set()

    def end_by(self, error: BrokerError) -> None:
        """End the stream with `error`, at once."""
        self._ends_by = error
        self._something.set()

    def close(self) -> None:
        """The stream has ended: leave nothing behind."""
        for key in list(self._known):
            self._forget(key)

    async def next(self) -> Told | InstallKey | Silence:
        """What to tell, or an install that wants a `look`, or that there is nothing.

        Raises:
            BrokerError: what the stream was ended by.
        """
        while True:
            # First, and by the clock alone: news that never ends must prolong no stream, and leave no caller in doubt.
            if self._ends_by is not None:
                raise self._ends_by
            now = self._loop.time()
            if now >= self._until:
                return Silence.OVER
            if now >= self._heartbeat_at:
                self._heartbeat_at = now + HEARTBEAT.total_seconds()
                return Silence.HEARTBEAT
            if self._refused:
                return self._refused.pop(0)
            if self._marked:
                key = next(iter(self._marked))
                del self._marked[key]
                return key
            await self._something_until(min(self._heartbeat_at, self._until))

    async def _something_until(self, moment: float) -> None:
        self._something.clear()
        timer = self._loop.call_at(moment, self._something.set)
        try:
            await self._something.wait()
        finally:
            timer.cancel()

    async def look(self, key: InstallKey) -> Told | None:
        """What to tell of an install that was marked; None if the caller knows all there is."""
        if key not in self._known:
            return None
        call = self._call.part()
        call.concerns(key)
        try:
            async with asyncio.timeout(LOOK_PATIENCE.total_seconds()):
                entry = await self._knowledge.of(key, call)
            return await self._told(call, key, entry)
        except (RetryableError, TimeoutError) as error:
            # Ours to mend, and no reason to use no token: look again, later.
            log.debug("watch.look_failed", error=str(error))
            self._loop.call_later(RETRY_AFTER.total_seconds(), self._again, key)
            return None
        except BrokerError as error:
            return await self._refusal(call, key, error)

    async def _told(self, call: Call, key: InstallKey, entry: Entry) -> Told | None:
        """Raises InstallNotFound, ReauthorizationRequired, AuditUnavailable."""
        install = entry.holding.install
        refuse_unserving(install)
        if key not in self._known:  # unsubscribed while we looked
            return None
        known_generation, told = self._known[key]
        if install.rejected and install.generation >= known_generation:
            wait = "Envoy has rejected the newest token; another follows"
            return self._tell_once(key, ProviderUnavailable(wait, RETRY_AFTER))
        is_news = install.generation > known_generation or told is not None
        if not is_news or self._knowledge.clock.now() >= entry.usable_until:
            return None
        await call.hand_out(entry)
        if key not in self._known:
            return None
        self._known[key] = (install.generation, None)
        self._on_token()
        return Told(key, entry)

    async def _refusal(self, call: Call, key: InstallKey, error: BrokerError) -> Told | None:
        try:
            await call.end(error)
        except RetryableError as unavailable:
            log.warning("audit.refusal_not_recorded", error=str(unavailable))
        if key not in self._known:
            return None
        told = self._tell_once(key, error)
        if isinstance(error, InstallNotFound):
            self._forget(key)
        return told

    def _tell_once(self, key: InstallKey, error: BrokerError) -> Told | None:
        known_generation, told = self._known[key]
        if told is type(error):
            return None
        self._known[key] = (known_generation, type(error))
        return Told(key, error)

    def _refuse(self, told: Told) -> None:
        self._refused.append(told)
        del self._refused[:-MAX_REFUSALS]
        self._something.set()

    def _key(self, plugin_id: str, install_id: str) -> InstallKey:
        app = self._knowledge.apps.resolve(plugin_id)
        return InstallKey(app.plugin_id, checked_id(install_id, "install_id"))

    def _again(self, key: InstallKey) -> None:
        if key in self._known:
            self.news(key)

    def _forget(self, key: InstallKey) -> None:
        if self._known.pop(key, None) is not None:
            self._knowledge.changes.unfollow(key, self)
        self._marked.pop(key, None)
