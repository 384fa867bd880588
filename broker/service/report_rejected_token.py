"""ReportRejectedToken: Envoy answered 401 to a token that the broker had handed out.

Compare and invalidate: a report counts only against the newest generation, so any number of reports of one generation
cause one refresh. Within a cool-down no second token is taken out of use: if Envoy rejects what it has just issued, or a
caller is mistaken, more refreshes won't help.
"""

from datetime import timedelta
from typing import NamedTuple

import structlog

from broker.domain.apps import Apps
from broker.domain.errors import InstallNotFound, InvalidField, ReauthorizationRequired
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.installs import Install
from broker.domain.states import InstallState
from broker.ports import InstallStore
from broker.service.calls import Call
from broker.service.changes import Changes
from broker.service.flights import Flights
from broker.service.refresher import Refresher
from broker.service.token_cache import TokenCache

log = structlog.get_logger(__name__)


class Report(NamedTuple):
    """What a report caused. `generation`: the newest there is."""

    invalidated: bool
    generation: int


class ReportRejectedToken:
    """The use case."""

    def __init__(
        self,
        *,
        apps: Apps,
        store: InstallStore,
        cache: TokenCache,
        changes: Changes,
        refresher: Refresher,
        cool_down: timedelta,
    ) -> None:
        self._apps = apps
        self._store = store
        self._cache = cache
        self._changes = changes
        self._refresher = refresher
        self._cool_down = cool_down
        self._reports: Flights[tuple[InstallKey, int], Report] = Flights()

    async def __call__(self, call: Call, plugin_id: str, install_id: str, generation: int) -> Report:
        """Whether this report took the generation out of use. A refresh has then begun.

        Raises:
            InvalidField: an id is no id, or `generation` is not positive.
            InstallNotFound, ReauthorizationRequired, StoreUnavailable, AuditUnavailable.
        """
        key = InstallKey(self._apps.resolve(plugin_id).plugin_id, checked_id(install_id, "install_id"))
        call.concerns(key)
        if generation <= 0:
            raise InvalidField("generation", "must be that of a token that was handed out: 1 or more")
        install = await self._known(key)
        call.require(install)
        if install.generation > generation:
            return Report(invalidated=False, generation=install.generation)
        await call.begun()
        report = (key, generation)
        if report in self._reports:
            return (await self._reports.join(report, lambda: self._reject(key, generation)))._replace(
                invalidated=False
            )
        return await self._reports.join(report, lambda: self._reject(key, generation))

    async def _known(self, key: InstallKey) -> Install:
        """The install, as far as it takes to judge the caller."""
        known = self._cache.get(key)
        install = known.holding.install if known is not None else await self._store.find(key)
        if install is None:
            raise InstallNotFound
        return install

    async def _reject(self, key: InstallKey, generation: int) -> Report:
        holding, invalidated = await self._store.reject(key, generation, self._cool_down)
        install = holding.install
        if not invalidated:
            self._changes.learn(holding)
        else:
            self._changes.publish(holding)
            log.warning("token.rejected_by_envoy", **key._asdict(), generation=generation)
            self._refresher.refresh_behind(key, install.generation)
        if install.state is InstallState.UNINSTALLED:
            raise InstallNotFound
        if install.state is InstallState.REAUTHORIZATION_REQUIRED:
            raise ReauthorizationRequired
        return Report(invalidated, install.generation)
