"""``/_simulator``: installs, webhooks, behaviours, the ledger. No part of Envoy."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.sandbox.simulated_envoy.behaviour import BehaviourChange
from broker.sandbox.simulated_envoy.clients import AppDirectory, SimulatedApp
from broker.sandbox.simulated_envoy.control_requests import (
    ControlRequestError,
    InstallRequest,
    LedgerQuery,
    SendRequest,
    read_body,
    read_query,
)
from broker.sandbox.simulated_envoy.gate import Gate
from broker.sandbox.simulated_envoy.installs import Install
from broker.sandbox.simulated_envoy.issuer import Issuer
from broker.sandbox.simulated_envoy.layers import BehaviourLayers
from broker.sandbox.simulated_envoy.ledger import Ledger
from broker.sandbox.simulated_envoy.tokens import FINGERPRINT_HEX_DIGITS, InstallKey
from broker.sandbox.simulated_envoy.webhooks import (
    RETRIES,
    Kind,
    SignedWebhook,
    WebhookFacts,
    WebhookSender,
    build_webhook,
    sample_config,
    sign,
)


class Control:
    """The endpoints by which a person or a test drives the simulated Envoy."""

    def __init__(
        self,
        apps: AppDirectory,
        issuer: Issuer,
        layers: BehaviourLayers,
        ledger: Ledger,
        gate: Gate,
        sender: WebhookSender,
        clock: Callable[[], float],
    ) -> None:
        self._apps = apps
        self._issuer = issuer
        self._layers = layers
        self._ledger = ledger
        self._gate = gate
        self._sender = sender
        self._clock = clock
        self._installs: dict[InstallKey, Install] = {}

    def routes(self) -> list[Route]:
        """Every address under ``/_simulator``."""
        behaviour, install = "/_simulator/behaviour", "/_simulator/installs/{install_id}"
        return [
            Route("/_simulator/ledger", self.read_ledger, methods=["GET"]),
            Route("/_simulator/ledger", self.clear_ledger, methods=["DELETE"]),
            Route("/_simulator/release", self.release, methods=["POST"]),
            *(
                Route(path, endpoint, methods=[method])
                for path in (behaviour, behaviour + "/{install_id}")
                for method, endpoint in (
                    ("GET", self.read_behaviour),
                    ("PUT", self.change_behaviour),
                    ("DELETE", self.clear_behaviour),
                )
            ),
            Route("/_simulator/tokens/{fingerprint}", self.read_token, methods=["GET"]),
            Route("/_simulator/installs", self.install, methods=["POST"]),
            Route(install, self.read_install, methods=["GET"]),
            Route(install + "/webhook", self.send_again, methods=["POST"]),
            Route(install + "/uninstall", self.uninstall, methods=["POST"]),
        ]

    async def read_ledger(self, request: Request) -> Response:
        """The entries, once the awaited ones are there or the time is up."""
        query = read_query(request, LedgerQuery)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(query.timeout_seconds):
                await self._ledger.wait_for(query.await_requests, query.until, query.install_id)
        return json_response({"entries": self._ledger.entries(query.install_id)})

    async def clear_ledger(self, _: Request) -> Response:
        """Empties the ledger."""
        self._ledger.clear()
        return Response(status_code=204)

    async def release(self, _: Request) -> Response:
        """Lets the held token requests go on."""
        return json_response({"released": self._gate.release()})

    async def read_behaviour(self, request: Request) -> Response:
        """The behaviour that the next token request would meet."""
        return self._behaviour_document(request.path_params.get("install_id"))

    async def change_behaviour(self, request: Request) -> Response:
        """Sets the behaviour of all installs, or of one."""
        install_id = request.path_params.get("install_id")
        self._layers.change(install_id, await read_body(request, BehaviourChange))
        return self._behaviour_document(install_id)

    async def clear_behaviour(self, request: Request) -> Response:
        """Takes back what was set for all installs, or for one."""
        install_id = request.path_params.get("install_id")
        self._layers.clear(install_id)
        return self._behaviour_document(install_id)

    async def read_token(self, request: Request) -> Response:
        """Whether the token with this fingerprint is alive, and why not."""
        prefix = request.path_params["fingerprint"]
        token = self._issuer.find(prefix) if len(prefix) >= FINGERPRINT_HEX_DIGITS else None
        if token is None:
            raise ControlRequestError("fingerprint", "names no token that was issued here", 404)
        behaviour = self._layers.current(token.family.install_id)
        why_dead = self._issuer.why_dead(token, behaviour, self._clock())
        facts = asdict(token) | {"alive": why_dead is None, "why_dead": why_dead}
        return json_response(facts)

    async def install(self, request: Request) -> Response:
        """Installs the app and sends the setup step's webhook."""
        asked = await read_body(request, InstallRequest)
        app = self._app(asked.plugin_id)
        key = InstallKey(app.plugin_id, asked.install_id)
        self._issuer.install(key, asked.company_id)
        facts = WebhookFacts(
            key=key,
            company_id=asked.company_id,
            auth=None if "auth" in asked.model_fields_set else self._installer_auth(key),
            config=asked.config,
            params=asked.params,
            payload=asked.payload,
            route=asked.route,
        )
        config = sample_config(asked.kind) if asked.config is None else asked.config
        webhook = self._signed(app, asked.kind, facts)
        install = self._installs[key] = Install(key, asked.company_id, config, webhook)
        return await self._send(install, asked, saves_config=asked.kind == "validation")

    async def read_install(self, request: Request) -> Response:
        """What is known of an install."""
        return json_response(
            {"install": self._find(request, request.query_params.get("plugin_id")).document()}
        )

    async def send_again(self, request: Request) -> Response:
        """Sends an install's last webhook again, byte for byte."""
        asked = await read_body(request, SendRequest)
        install = self._find(request, asked.plugin_id)
        return await self._send(install, asked)

    async def uninstall(self, request: Request) -> Response:
        """Revokes the install's tokens and sends ``plugin_uninstalled``."""
        asked = await read_body(request, SendRequest)
        install = self._find(request, asked.plugin_id)
        self._issuer.uninstall(install.key)
        install.installed = False
        facts = WebhookFacts(install.key, install.company_id, auth=None, config=install.config)
        app = self._app(install.key.plugin_id)
        install.last_webhook = self._signed(app, "plugin_uninstalled", facts)
        return await self._send(install, asked)

    def _app(self, plugin_id: str | None) -> SimulatedApp:
        app = self._apps.find(plugin_id)
        if app is None:
            raise ControlRequestError("plugin_id", "must name one of the simulated apps")
        return app

    def _find(self, request: Request, plugin_id: str | None) -> Install:
        key = InstallKey(self._app(plugin_id).plugin_id, request.path_params["install_id"])
        if key not in self._installs:
            raise ControlRequestError("install_id", "names no install", 404)
        return self._installs[key]

    def _installer_auth(self, key: InstallKey) -> dict[str, object]:
        behaviour = self._layers.current(key.install_id)
        return self._issuer.mint_installer_token(key, behaviour, self._clock()).document()

    def _signed(self, app: SimulatedApp, kind: Kind, facts: WebhookFacts) -> SignedWebhook:
        body = build_webhook(kind, facts)
        return SignedWebhook(body, sign(body, app.client_secret))

    async def _send(self, install: Install, asked: SendRequest, *, saves_config: bool = False) -> Response:
        """Sends if an address is known, and answers with the install, the webhook, and what came back."""
        webhook = install.last_webhook
        url = install.webhook_url = asked.webhook_url or install.webhook_url
        delivered: dict[str, Any] = {"status": None, "body": None, "attempts": 0, "error": None}
        if url is not None:
            attempts = 1 + RETRIES if asked.retries else 1
            delivery = await self._sender.send(
                webhook, url, attempts=attempts, interval_seconds=asked.retry_interval_seconds
            )
            delivered = asdict(delivery)
            if saves_config and delivery.accepted and isinstance(delivery.body, dict):
                install.merge(delivery.body)
        return json_response(
            {"install": install.document(), "webhook": delivered | {"sent": webhook.document()}}
        )

    def _behaviour_document(self, install_id: str | None) -> Response:
        behaviour = self._layers.current(install_id).model_dump()
        return json_response({"behaviour": behaviour, "remaining": self._layers.remaining(install_id)})


def json_response(document: object, status: int = 200, media_type: str = "application/json") -> Response:
    """JSON with NaN let through, which a behaviour's overrides may hold."""
    return Response(json.dumps(document), status, media_type=media_type)


async def control_error(_: Request, error: Exception) -> Response:
    """A mistake in a request to ``/_simulator``, as JSON."""
    fault = cast("ControlRequestError", error)  # the only kind that this handler is registered for
    document = {"error": "bad_request", "field": fault.field, "message": fault.message}
    return json_response(document, fault.status)
