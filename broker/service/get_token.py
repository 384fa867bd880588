"""GetToken: an access token that is valid now.

A FRESH token comes from this process's memory. A STALE one too, and a refresh begins behind it. Only a
caller of an EXPIRED one waits (see refresher.py).
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from broker.domain.apps import Apps
from broker.domain.errors import (
    InstallNotFound,
    InvalidField,
    ProviderUnavailable,
    ReauthorizationRequired,
    RetryableError,
)
from broker.domain.freshness import MIN_TTL_SHARE, Freshness, freshness, longest_min_ttl
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.installs import Install
from broker.domain.lifetimes import LONGEST_LIFETIME
from broker.domain.states import InstallState
from broker.ports import Clock, InstallStore
from broker.service.calls import Call
from broker.service.changes import Changes
from broker.service.flights import Flights
from broker.service.refresher import Refresher
from broker.service.token_cache import Entry, TokenCache
from broker.telemetry import spans

NO_TIME: Final = timedelta(0)
RETRY_SHORT_LIVED: Final = timedelta(seconds=1)
# How soon a look or a refresh that nobody waits for is tried again, if it brought nothing.
LOOK_AGAIN: Final = timedelta(seconds=1)
REFRESH_AGAIN: Final = timedelta(seconds=1)
# A storm of hints must not take every database connection; what is not looked up now is when it is due.
MAX_LOOKS_BEHIND: Final = 64


class Source(StrEnum):
    """Where a token came from that was handed out: this process's memory, the store, or a refresh that was waited for."""

    MEMORY = "memory"
    STORE = "store"
    REFRESH = "refresh"


class GetToken:
    """The use case. Call it with the ids as the caller gave them.

    Attributes: handed_out: how many tokens, by where they came from.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        store: InstallStore,
        cache: TokenCache,
        changes: Changes,
        refresher: Refresher,
        clock: Clock,
    ) -> None:
        self._apps = apps
        self._store = store
        self._cache = cache
        self._changes = changes
        self._refresher = refresher
        self._clock = clock
        self._look_ups: Flights[InstallKey, Entry] = Flights()
        self.handed_out = dict.fromkeys(Source, 0)

    async def __call__(
        self, call: Call, plugin_id: str, install_id: str, min_ttl: timedelta = NO_TIME
    ) -> Entry:
        """An entry whose token is usable for `min_ttl` more, once it is on record that the caller gets it.

        Raises:
            InvalidField: an id is no id, or `min_ttl` is negative or more than half a token's lifetime.
            InstallNotFound, ReauthorizationRequired, ClientCredentialsRefused, ProviderUnavailable,
            StoreUnavailable, AuditUnavailable, Overloaded.
        """
        now = self._clock.now()
        with spans.in_span(spans.CACHE):
            entry = self._cache.get((plugin_id or self._apps.default_plugin_id, install_id))
        if (
            entry is not None
            and now < entry.fresh_until
            and (not min_ttl or NO_TIME < min_ttl <= min(entry.longest_min_ttl, entry.usable_until - now))
        ):
            call.require(entry.holding.install)
            source = Source.MEMORY
        else:
            entry, source = await self._with_a_look(call, plugin_id, install_id, min_ttl)
        await call.hand_out(entry)
        self.handed_out[source] += 1
        return entry

    def look_behind(self, key: InstallKey) -> None:
        """Look whether what is remembered of `key` still stands; nobody waits for it."""
        if key in self._cache and len(self._look_ups) < MAX_LOOKS_BEHIND:
            self._look_ups.start(key, lambda: self._look_up(key))

    async def _with_a_look(
        self, call: Call, plugin_id: str, install_id: str, min_ttl: timedelta
    ) -> tuple[Entry, Source]:
        if min_ttl < NO_TIME:
            raise InvalidField("min_ttl", "must not be negative")
        if min_ttl > LONGEST_LIFETIME * MIN_TTL_SHARE:
            raise InvalidField("min_ttl", "must be at most half of the token's lifetime")
        app = self._apps.resolve(plugin_id)
        key = InstallKey(app.plugin_id, checked_id(install_id, "install_id"))
        call.concerns(key)
        entry, source = await self._known(key)
        call.require(entry.holding.install)
        if self._serves(entry, min_ttl):
            return entry, source
        holding = await self._refresher.refresh(key, entry.holding.install.generation)
        entry = self._cache.get(key) or self._cache.put(holding, self._clock.now())
        call.require(entry.holding.install)  # Envoy may have named another company, or the first.
        if self._serves(entry, min_ttl):
            return entry, Source.REFRESH
        raise ProviderUnavailable("Envoy's newest token is too short-lived to hand out", RETRY_SHORT_LIVED)

    async def _known(self, key: InstallKey) -> tuple[Entry, Source]:
        """What the cache or the store knows. Without the store, what the cache knew last."""
        entry, now = self._cache.get(key), self._clock.now()
        if entry is not None and now < entry.check_at:
            if now >= entry.look_at:
                entry.look_at = now + LOOK_AGAIN
                self.look_behind(key)
            return entry, Source.MEMORY
        try:
            with spans.in_span(spans.LOOK_UP):
                return await self._look_ups.join(key, lambda: self._look_up(key)), Source.STORE
        except RetryableError:
            if entry is None or self._clock.now() >= entry.usable_until:
                raise
            return entry, Source.MEMORY

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

    def _serves(self, entry: Entry, min_ttl: timedelta) -> bool:
        """Whether the entry's token can be handed out; begins a refresh behind a STALE one."""
        install = entry.holding.install
        _refuse_unserving(install)
        if install.validity is None:
            return False
        if min_ttl > longest_min_ttl(install.validity):
            raise InvalidField("min_ttl", "must be at most half of the token's lifetime")
        now = self._clock.now()
        if now + min_ttl >= entry.usable_until:
            return False
        if freshness(install, now) is Freshness.STALE:
            self._refresh_behind(entry, now)
        return True

    def _refresh_behind(self, entry: Entry, now: datetime) -> None:
        install = entry.holding.install
        not_before = install.failure.retry_at if install.failure is not None else now
        if now >= max(not_before, entry.refresh_at):
            entry.refresh_at = now + REFRESH_AGAIN
            self._refresher.refresh_behind(install.key, install.generation)


def _refuse_unserving(install: Install) -> None:
    if install.state is InstallState.UNINSTALLED:
        raise InstallNotFound
    if install.state is InstallState.REAUTHORIZATION_REQUIRED:
        raise ReauthorizationRequired
