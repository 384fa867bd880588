"""The Envoy apps that the broker serves."""

from collections.abc import Iterable
from dataclasses import dataclass

from broker.domain.errors import InstallNotFound, InvalidField
from broker.domain.identifiers import checked_id
from broker.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class EnvoyApp:
    """An app on Envoy, as its developer sees it in Envoy's dashboard.

    Attributes:
        plugin_id: what Envoy's webhooks call it.
        previous_client_secret: what Envoy may still sign webhooks with while the secret is being changed; it is shown to
            nobody any more.
        verify_plugin_id: False where nobody has told us Envoy's id, and `plugin_id` is only our name for it.
    """

    plugin_id: str
    client_id: str
    client_secret: Secret
    previous_client_secret: Secret | None = None
    verify_plugin_id: bool = True


class Apps:
    """The apps by their plugin id."""

    def __init__(self, apps: Iterable[EnvoyApp]) -> None:
        self._by_plugin_id = {app.plugin_id: app for app in apps}
        if not self._by_plugin_id:
            raise ValueError("a broker serves at least one app")
        only = next(iter(self._by_plugin_id)) if len(self._by_plugin_id) == 1 else ""
        self.default_plugin_id = only

    def resolve(self, plugin_id: str) -> EnvoyApp:
        """The app that a caller means; "" means the only one.

        Raises:
            InvalidField: no id, and several apps to choose from; or one that can be none.
            InstallNotFound: no such app, so no such install.
        """
        if not (plugin_id or self.default_plugin_id):
            raise InvalidField("plugin_id", "must be given where the broker serves several apps")
        app = self._by_plugin_id.get(plugin_id or self.default_plugin_id)
        if app is None:
            checked_id(plugin_id, "plugin_id")
            raise InstallNotFound
        return app
