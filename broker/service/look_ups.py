"""Look-ups: what this process knows of an install, and the store asked where that is too old.

However many want to know, the store is asked once. Without the store, what was known last still serves.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from broker.domain.errors import InstallNotFound, ReauthorizationRequired, RetryableError
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Install
from broker.domain.states import InstallState
from broker.ports import Clock, InstallStore
from broker.service.changes import Changes
from broker.service.flights import Flights
from broker.service.token_cache import Entry, TokenCache
from broker.telemetry import spans

# How soon a look that nobody waits for is tried again, if it brought nothing.
LOOK_AGAIN: Final = timedelta(seconds=1)
# A storm of hints must not take every database connection; what is not looked up now is when it is due.
MAX_LOOKS_BEHIND: Final = 64


class Source(StrEnum):
    """Where a token came from that was handed out.

    This process's memory, the store, a refresh that was waited for; or it was pushed to a watcher.
    """

    MEMORY = "memory"
    STORE = "store"
    REFRESH = "refresh"
    WATCH = "watch"


class LookUps:
    """What the cache or the store knows."""

    def __init__(self, *, store: InstallStore, cache: TokenCache, changes: Changes, clock: Clock) -> None:
        self._store = store
        self._cache = cache
        self._changes = changes
        self._clock = clock
        self._under_way: Flights[InstallKey, Entry] = Flights()

    async def known(self, key: InstallKey) -> tuple[Entry, Source]:
        """What the cache or the store knows. Without the store, what the cache knew last.

        Raises:
            InstallNotFound, StoreUnavailable, SealBroken.
        """
        entry, now = self._cache.get(key), self._clock.now()
        if entry is not None and now < entry.check_at:
            if now >= entry.look_at:
                entry.look_at = now + LOOK_AGAIN
                self.look_behind(key)
            return entry, Source.MEMORY
        try:
            with spans.in_span(spans.LOOK_UP):
                return await self.look_up(key), Source.STORE
        except RetryableError:
            if entry is None or self._clock.now() >= entry.usable_until:
                raise
            return entry, Source.MEMORY

    def look_behind(self, key: InstallKey) -> None:
        """Look whether what is remembered of `key` still stands; nobody waits for it."""
        if key in self._cache and len(self._under_way) < MAX_LOOKS_BEHIND:
            self._under_way.start(key, lambda: self._look_up(key))

    async def look_up(self, key: InstallKey) -> Entry:
        """What the store says now, or to a look that is under way.

        Raises:
            InstallNotFound, StoreUnavailable, SealBroken.
        """
        return await self._under_way.join(key, lambda: self._look_up(key))

    async def _look_up(self, key: InstallKey) -> Entry:
        asked_at = self._clock.now()
        try:
            holding = await self._store.find_holding(key)
        except RetryableError:
            # Nobody else shall wait as long for the same answer; a valid token is served meanwhile.
            entry = self._cache.get(key)
            if entry is not None:
                entry.look_at = entry.check_at = self._clock.now() + LOOK_AGAIN
            raise
        if holding is None:
            raise InstallNotFound
        self._changes.learn(holding, asked_at)
        return self._cache.get(key) or self._cache.put(holding, asked_at)


def refuse_unserving(install: Install) -> None:
    """Go on only if the install is in a state that gives tokens.

    Raises:
        InstallNotFound: it was uninstalled.
        ReauthorizationRequired.
    """
    if install.state is InstallState.UNINSTALLED:
        raise InstallNotFound
    if install.state is InstallState.REAUTHORIZATION_REQUIRED:
        raise ReauthorizationRequired
