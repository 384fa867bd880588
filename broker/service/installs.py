"""GetInstall, RefreshInstall and DeleteInstall: one install, for operators."""

from collections.abc import Sequence

import structlog

from broker.domain.apps import Apps
from broker.domain.claims import Purpose
from broker.domain.errors import InstallNotFound, RetryableError
from broker.domain.history import AttemptRecord
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.installs import Holding, Install
from broker.ports import InstallStore
from broker.service.calls import Call
from broker.service.changes import Changes
from broker.service.refresher import Refresher

log = structlog.get_logger(__name__)


class Installs:
    """The use cases. Each raises InvalidField, InstallNotFound, StoreUnavailable and AuditUnavailable."""

    def __init__(
        self,
        *,
        apps: Apps,
        store: InstallStore,
        refresher: Refresher,
        changes: Changes,
    ) -> None:
        self._apps = apps
        self._store = store
        self._refresher = refresher
        self._changes = changes

    async def get(self, call: Call, plugin_id: str, install_id: str) -> Install:
        """The install, tombstones included."""
        key = self._key(plugin_id, install_id)
        call.concerns(key)
        install = await self._store.find(key)
        if install is None:
            raise InstallNotFound
        call.require(install)
        return install

    async def refresh(self, call: Call, plugin_id: str, install_id: str) -> Install:
        """The install after a refresh that was asked for, due or not. A tombstone, too: Envoy is asked.

        Raises also what Refresher.refresh raises.
        """
        install = await self.get(call, plugin_id, install_id)
        await call.begun()
        holding = await self._refresher.refresh(install.key, install.generation, Purpose.FORCED)
        return holding.install

    async def delete(self, call: Call, plugin_id: str, install_id: str) -> Install:
        """The tombstone."""
        known = await self.get(call, plugin_id, install_id)
        await call.begun()
        install = await self._store.bury(known.key)
        self._changes.publish(Holding(install, None, ""))
        return install

    async def history(self, install: Install) -> Sequence[AttemptRecord]:
        """The last attempts of an install that was given here. Empty if the store can't say: what was given holds."""
        try:
            return await self._store.history(install.key)
        except RetryableError as error:
            log.info("installs.history_failed", error=str(error))
            return ()

    def _key(self, plugin_id: str, install_id: str) -> InstallKey:
        return InstallKey(self._apps.resolve(plugin_id).plugin_id, checked_id(install_id, "install_id"))
