"""AcceptRouteWebhook: what Envoy tells us by a webhook.

A webhook is a hint that starts an exchange, never the truth: what Envoy's token endpoint answers is. That holds for the
news of an uninstall, too: it may be late, or a replay, and the company may have installed the app again since.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import structlog

from broker.domain.apps import Apps
from broker.domain.errors import (
    CallerNotAllowed,
    ClientCredentialsRefused,
    InstallNotFound,
    ProviderUnavailable,
)
from broker.domain.installs import Holding, Install
from broker.domain.webhooks import RESEND_WINDOW, RouteWebhook, UninstalledWebhook
from broker.ports import Clock, InstallStore, WebhookReader
from broker.service.changes import Changes
from broker.service.refresher import Refresher

log = structlog.get_logger(__name__)


class WebhookKind(Enum):
    """What a webhook was taken for."""

    ROUTE = "route"
    UNINSTALLED = "uninstalled"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a webhook.

    Attributes:
        install: None if the webhook concerns none that we know.
        payload: what the installer submitted, to be repeated to Envoy.
    """

    kind: WebhookKind
    install: Install | None
    payload: Mapping[str, object] | None = field(default=None, repr=False)


class AcceptRouteWebhook:
    """The use case, in two forms: the webhook as received, or as a caller vouches for it."""

    def __init__(
        self,
        *,
        apps: Apps,
        reader: WebhookReader,
        store: InstallStore,
        refresher: Refresher,
        clock: Clock,
        changes: Changes,
        trust_vouched: bool,
    ) -> None:
        self._apps = apps
        self._reader = reader
        self._store = store
        self._refresher = refresher
        self._clock = clock
        self._changes = changes
        self._trust_vouched = trust_vouched

    async def signed(self, plugin_id: str, body: bytes, signature: str) -> Accepted:
        """Accept a webhook as Envoy sent it.

        Raises:
            SignatureRefused, InvalidField, InstallNotFound (no such app), ReauthorizationRequired,
            ClientCredentialsRefused, ProviderUnavailable, StoreUnavailable, Overloaded.
        """
        webhook = self._reader.read(self._apps.resolve(plugin_id), body, signature)
        match webhook:
            case RouteWebhook():
                return await self._exchange(webhook)
            case UninstalledWebhook():
                return await self._uninstall(webhook)
            case _:
                return Accepted(WebhookKind.OTHER, None)

    async def vouched(self, webhook: RouteWebhook) -> Accepted:
        """Accept what a caller read in a webhook that it verified itself.

        Raises:
            CallerNotAllowed: this broker trusts no such caller. Else as `signed`.
        """
        if not self._trust_vouched:
            raise CallerNotAllowed("may not vouch for a webhook; send it signed, as Envoy did")
        return await self._exchange(webhook)

    async def _exchange(self, webhook: RouteWebhook) -> Accepted:
        issued_at = self._clock.now() - RESEND_WINDOW
        await self._store.enrol(webhook.key, webhook.company_id)
        try:
            holding = await self._refresher.exchange(webhook)
        except (ProviderUnavailable, ClientCredentialsRefused) as error:
            holding = await self._store.keep_provisional(webhook, issued_at)
            self._changes.publish(holding)
            if isinstance(error, ClientCredentialsRefused) or not _is_this_webhooks(holding, webhook):
                raise
            log.warning("webhook.kept_provisionally", **webhook.key._asdict())
        return Accepted(WebhookKind.ROUTE, holding.install, webhook.payload)

    async def _uninstall(self, webhook: UninstalledWebhook) -> Accepted:
        try:
            holding = await self._refresher.exchange(webhook)
        except InstallNotFound:
            return Accepted(WebhookKind.UNINSTALLED, None)
        log.info("webhook.uninstalled", **webhook.key._asdict(), state=holding.install.state)
        return Accepted(WebhookKind.UNINSTALLED, holding.install)


def _is_this_webhooks(holding: Holding, webhook: RouteWebhook) -> bool:
    return holding.access_token is not None and holding.access_token == webhook.access_token
