"""What the simulated Envoy remembers of an install, beside its tokens."""

from dataclasses import dataclass
from typing import Any

from broker.sandbox.simulated_envoy.tokens import InstallKey
from broker.sandbox.simulated_envoy.webhooks import SignedWebhook


@dataclass
class Install:
    """One app at one company or location."""

    key: InstallKey
    company_id: str
    config: dict[str, Any]
    """What the setup steps have saved. Anyone with a look at Envoy's dashboard can read it."""
    last_webhook: SignedWebhook
    webhook_url: str | None = None
    installed: bool = True

    def document(self) -> dict[str, Any]:
        """The install as JSON."""
        return {
            "plugin_id": self.key.plugin_id,
            "install_id": self.key.install_id,
            "company_id": self.company_id,
            "config": self.config,
            "installed": self.installed,
        }

    def merge(self, answered: dict[str, Any]) -> None:
        """A validation answer is merged into the config; a null removes its key."""
        merged = self.config | answered
        self.config = {name: value for name, value in merged.items() if value is not None}
