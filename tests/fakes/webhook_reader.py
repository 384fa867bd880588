"""FakeWebhookReader: the WebhookReader port for webhooks that a test has made up."""

from typing import Any, Final

from broker.domain.apps import EnvoyApp
from broker.domain.errors import InvalidField, SignatureRefused
from broker.domain.webhooks import Webhook

SIGNATURE: Final = "the-signature-that-fits"


class FakeWebhookReader:
    """Reads the bodies it was told of, if the signature is SIGNATURE."""

    def __init__(self) -> None:
        self.webhooks: dict[bytes, Webhook] = {}

    def read(self, app: EnvoyApp, body: bytes, signature: str) -> Webhook:
        """See WebhookReader."""
        if signature != SIGNATURE or not app.client_secret:
            raise SignatureRefused
        webhook = self.webhooks.get(body)
        if webhook is None:
            raise InvalidField("body", "is not JSON")
        return webhook

    def payload_of(self, body: bytes) -> dict[str, Any] | None:
        """See WebhookReader."""
        return {"body": body.decode()} if body in self.webhooks else None
