"""GetInstall, RefreshInstall and DeleteInstall: one install, for operators."""

from broker.domain.apps import Apps
from broker.domain.claims import Purpose
from broker.domain.errors import InstallNotFound
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.installs import Holding, Install
from broker.ports import InstallStore
from broker.service.changes import Changes
from broker.service.refresher import Refresher


class Installs:
    """The use cases. Each raises InvalidField, InstallNotFound and StoreUnavailable."""

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

    async def get(self, plugin_id: str, install_id: str) -> Install:
        """The install, tombstones included."""
        install = await self._store.find(self._key(plugin_id, install_id))
        if install is None:
            raise InstallNotFound
        return install

    async def refresh(self, plugin_id: str, install_id: str) -> Install:
        """The install after a refresh that was asked for, due or not. A tombstone, too: Envoy is asked.

        Raises also what Refresher.refresh raises.
        """
        install = await self.get(plugin_id, install_id)
        holding = await self._refresher.refresh(install.key, install.generation, Purpose.FORCED)
        return holding.install

    async def delete(self, plugin_id: str, install_id: str) -> Install:
        """The tombstone."""
        install = await self._store.bury(self._key(plugin_id, install_id))
        self._changes.publish(Holding(install, None, ""))
        return install

    def _key(self, plugin_id: str, install_id: str) -> InstallKey:
        return InstallKey(self._apps.resolve(plugin_id).plugin_id, checked_id(install_id, "install_id"))
