"""The apps that the simulated Envoy knows, and whether a token request comes from one of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.domain.secret import Secret


@dataclass(frozen=True)
class SimulatedApp:
    """An Envoy app (a "plugin") with make-believe credentials."""

    plugin_id: str
    client_id: str
    client_secret: Secret
    company_id: str = "100000"
    """The company that made the app: what its own (client_credentials) token belongs to."""


class AppDirectory:
    """The apps by id. Ids and client ids are unique."""

    def __init__(self, apps: Sequence[SimulatedApp]) -> None:
        self._by_plugin = {app.plugin_id: app for app in apps}
        self._by_client = {app.client_id: app for app in apps}
        if not len(apps) == len(self._by_plugin) == len(self._by_client):
            raise ValueError("plugin_id and client_id must be unique among the simulated apps")

    def authenticate(self, client_id: str | None, client_secret: Secret | None) -> SimulatedApp | None:
        """The app whose credentials these are."""
        app = self._by_client.get(client_id or "")
        return app if app is not None and app.client_secret == client_secret else None

    def find(self, plugin_id: str | None) -> SimulatedApp | None:
        """The app of that id; without an id the only app, if there is just one."""
        if plugin_id is not None:
            return self._by_plugin.get(plugin_id)
        apps = list(self._by_plugin.values())
        return apps[0] if len(apps) == 1 else None
