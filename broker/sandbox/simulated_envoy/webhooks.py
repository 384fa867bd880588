"""Builds Envoy's webhooks from the sample bodies, signs them, and sends them to this machine only."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from broker.domain.secret import Secret
from broker.sandbox.simulated_envoy.tokens import InstallKey

SIGNATURE_HEADER = "X-Envoy-Signature"
RETRIES = 5
"""Envoy sends a webhook that was not answered 2xx again, 5 times over 10 minutes (docs, "Create webhooks")."""
RETRY_INTERVAL_SECONDS = 120.0
WEBHOOK_TIMEOUT_SECONDS = 60.0
MAX_ANSWER_BYTES = 1_048_576

Kind = Literal["route", "validation", "plugin_uninstalled"]

_NAMES: dict[Kind, tuple[str, str]] = {
    "route": ("request_meta", "request_body"),
    "validation": ("meta", "payload"),
    "plugin_uninstalled": ("meta", "payload"),
}


@dataclass(frozen=True)
class SignedWebhook:
    """A webhook as it goes over the wire."""

    body: bytes = field(repr=False)
    signature: str

    def document(self) -> dict[str, Any]:
        """What a test needs to present the same webhook by another way."""
        return {"body": self.body.decode(), "headers": {SIGNATURE_HEADER: self.signature}}


@dataclass(frozen=True)
class Delivery:
    """What became of a sent webhook. ``status`` is None when nobody answered; ``body`` is JSON or text."""

    status: int | None
    body: Any
    attempts: int
    error: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether Envoy would call the webhook delivered."""
        return self.status is not None and httpx.codes.is_success(self.status)


@dataclass(frozen=True)
class WebhookFacts:
    """What is filled into the sample. None leaves the sample's own value, save for ``auth``."""

    key: InstallKey
    company_id: str
    auth: dict[str, Any] | None = field(repr=False)
    config: dict[str, Any] | None = None
    params: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None
    route: str | None = None


def build_webhook(kind: Kind, facts: WebhookFacts) -> bytes:
    """The webhook's body: ``{name, request_meta}`` for a route, ``{meta, payload}`` for the others."""
    document = _sample(kind)
    meta_name, payload_name = _NAMES[kind]
    meta = document[meta_name]
    meta["plugin_id"] = _like(meta["plugin_id"], facts.key.plugin_id)
    meta["install_id"] = _like(meta["install_id"], facts.key.install_id)
    meta["auth"] = _filled_auth(meta["auth"], facts.auth)
    if "company" in meta:
        meta["company"]["id"] = facts.company_id
    for name in ("config", "params", "route"):
        if (value := getattr(facts, name)) is not None:
            meta[name] = value
    if facts.payload is not None:
        document[payload_name] = facts.payload
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def sample_config(kind: Kind) -> dict[str, Any]:
    """The config that the sample webhook says is saved."""
    config: dict[str, Any] = _sample(kind)[_NAMES[kind][0]].get("config", {})
    return config


def sign(body: bytes, client_secret: Secret) -> str:
    """Base64 of the HMAC-SHA256 of the raw body under the client secret (docs, "Create webhooks")."""
    mac = hmac.new(client_secret.reveal().encode(), body, hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def loopback_url(url: str) -> str:
    """The URL, if it leads to this machine.

    Raises:
        ValueError: It does not, or is no http(s) URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.username is not None:
        raise ValueError("must be an http or https URL without credentials")
    host = parts.hostname or ""
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ValueError("must lead to this machine: 127.0.0.0/8, ::1 or localhost")
    return url


class WebhookSender:
    """Sends webhooks as Envoy does."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def send(
        self, webhook: SignedWebhook, url: str, *, attempts: int = 1, interval_seconds: float = 0
    ) -> Delivery:
        """Sends the webhook until it is answered 2xx or the attempts are used up."""
        for attempt in range(1, attempts):
            delivery = await self._send_once(webhook, url, attempt)
            if delivery.accepted:
                return delivery
            await asyncio.sleep(interval_seconds)
        return await self._send_once(webhook, url, attempts)

    async def _send_once(self, webhook: SignedWebhook, url: str, attempt: int) -> Delivery:
        try:
            async with asyncio.timeout(WEBHOOK_TIMEOUT_SECONDS):
                return await self._post(webhook, url, attempt)
        except (TimeoutError, httpx.HTTPError) as error:
            return Delivery(None, None, attempt, type(error).__name__)

    async def _post(self, webhook: SignedWebhook, url: str, attempt: int) -> Delivery:
        self._client = self._client or httpx.AsyncClient(trust_env=False, timeout=WEBHOOK_TIMEOUT_SECONDS)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "simulated-envoy",
            SIGNATURE_HEADER: webhook.signature,
        }
        async with self._client.stream("POST", url, content=webhook.body, headers=headers) as response:
            answered = bytearray()
            async for chunk in response.aiter_bytes():
                answered += chunk
                if len(answered) > MAX_ANSWER_BYTES:
                    return Delivery(response.status_code, None, attempt, "the answer is too large")
            return Delivery(response.status_code, _json_or_text(bytes(answered)), attempt)


def _sample(kind: Kind) -> dict[str, Any]:
    file = resources.files(__package__).joinpath("samples", f"{kind}_webhook.json")
    document: dict[str, Any] = json.loads(file.read_bytes())
    return document


def _like(sample: object, identifier: str) -> str | int:
    """An id as the sample has it: a number where it has a number and the id is one."""
    is_number = identifier.isascii() and identifier.isdecimal() and str(int(identifier)) == identifier
    return int(identifier) if isinstance(sample, int) and is_number else identifier


def _filled_auth(sample: dict[str, Any] | None, auth: dict[str, Any] | None) -> dict[str, Any] | None:
    """Only the sample's fields: one sample has ``state`` and ``company_id``, the other has not."""
    if sample is None or auth is None:
        return None
    return {name: auth[name] for name in sample}


def _json_or_text(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
