"""GetToken: an access token that is valid now.

A FRESH token comes from this process's memory. A STALE one too, and a refresh begins behind it. Only a
caller of an EXPIRED one waits (see refresher.py).
"""

from datetime import datetime, timedelta
from typing import Final

from broker.domain.apps import Apps
from broker.domain.errors import InvalidField, ProviderUnavailable
from broker.domain.freshness import MIN_TTL_SHARE, Freshness, freshness, longest_min_ttl
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.lifetimes import LONGEST_LIFETIME
from broker.ports import Clock
from broker.service.calls import Call
from broker.service.look_ups import LookUps, Source, refuse_unserving
from broker.service.refresher import Refresher
from broker.service.token_cache import Entry, TokenCache
from broker.telemetry import spans

NO_TIME: Final = timedelta(0)
RETRY_SHORT_LIVED: Final = timedelta(seconds=1)
# How soon a refresh that nobody waits for is tried again, if it brought nothing.
REFRESH_AGAIN: Final = timedelta(seconds=1)


class GetToken:
    """The use case. Call it with the ids as the caller gave them."""

    def __init__(
        self,
        *,
        apps: Apps,
        cache: TokenCache,
        look_ups: LookUps,
        refresher: Refresher,
        clock: Clock,
        handed_out: dict[Source, int],
    ) -> None:
        """`handed_out`: counts the tokens, by where they came from."""
        self._apps = apps
        self._cache = cache
        self._look_ups = look_ups
        self._refresher = refresher
        self._clock = clock
        self._handed_out = handed_out

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
        self._handed_out[source] += 1
        return entry

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
        entry, source = await self._look_ups.known(key)
        call.require(entry.holding.install)
        if self._serves(entry, min_ttl):
            return entry, source
        holding = await self._refresher.refresh(key, entry.holding.install.generation)
        entry = self._cache.get(key) or self._cache.put(holding, self._clock.now())
        call.require(entry.holding.install)  # Envoy may have named another company, or the first.
        if self._serves(entry, min_ttl):
            return entry, Source.REFRESH
        raise ProviderUnavailable("Envoy's newest token is too short-lived to hand out", RETRY_SHORT_LIVED)

    def _serves(self, entry: Entry, min_ttl: timedelta) -> bool:
        """Whether the entry's token can be handed out; begins a refresh behind a STALE one."""
        install = entry.holding.install
        refuse_unserving(install)
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
