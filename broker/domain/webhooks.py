"""What a webhook of Envoy's says, once it has been verified and parsed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret

MAX_BODY_BYTES: Final = 1024 * 1024
# Envoy sends a webhook again for ten minutes ("create-webhooks"): what it says may be as old as that already.
RESEND_WINDOW: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class RouteWebhook:
    """A setup step of an install: the app is being installed, or set up again.

    Attributes:
        company_id: "" if the webhook does not say.
        access_token: the webhook's own token, the installer's, without a refresh token.
        digest: tells this webhook from another; the same bytes give the same digest.
        payload: what the installer submitted, which Envoy wants back; None if nothing.
    """

    key: InstallKey
    company_id: str
    access_token: Secret
    token_type: str
    expires_in: timedelta
    digest: bytes
    payload: Mapping[str, object] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class UninstalledWebhook:
    """The event plugin_uninstalled. `digest` is as RouteWebhook's."""

    key: InstallKey
    digest: bytes


@dataclass(frozen=True, slots=True)
class OtherWebhook:
    """Any other event: nothing to do."""


Webhook = RouteWebhook | UninstalledWebhook | OtherWebhook
