"""Verifies and reads Envoy's webhooks, without any I/O.

Sources: Envoy's "Create webhooks" (signature), "Get a token for public apps" (`{name, request_meta}`), and its
Node SDK (`EnvoyMeta.ts`, `{meta, payload}`).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Final

from broker.adapters.envoy import token_fields
from broker.adapters.json_object import UnreadableJson, parse_json_object
from broker.domain.apps import EnvoyApp
from broker.domain.errors import InvalidField, SignatureRefused
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.secret import Secret
from broker.domain.tokens import readable_token
from broker.domain.webhooks import MAX_BODY_BYTES, OtherWebhook, RouteWebhook, UninstalledWebhook, Webhook

UNINSTALLED: Final = "plugin_uninstalled"

# Each thing has two names: the one of the Node SDK, then that of the page on public apps.
_META: Final = ("meta", "request_meta")
_PAYLOAD: Final = ("payload", "request_body")


class EnvoyWebhookReader:
    """The WebhookReader port."""

    def read(self, app: EnvoyApp, body: bytes, signature: str) -> Webhook:
        """What a webhook says; errors as the port says."""
        if len(body) > MAX_BODY_BYTES:
            raise InvalidField("body", f"must have at most {MAX_BODY_BYTES} bytes")
        _verify((app.client_secret, app.previous_client_secret), body, signature)
        document = _document(body)
        meta = _object(_either(document, _META), "meta")
        _check_plugin_id(app, meta.get("plugin_id"))
        event = meta.get("event")
        if event is None:
            return _route_webhook(app, document, meta, hashlib.sha256(body).digest())
        if not isinstance(event, str):
            raise InvalidField("meta.event", "must be a string")
        if event != UNINSTALLED:
            return OtherWebhook()
        return UninstalledWebhook(_key(app, meta), hashlib.sha256(body).digest())


def _verify(client_secrets: Iterable[Secret | None], body: bytes, signature: str) -> None:
    """Base64(HMAC-SHA256(raw body, client secret)), by one of the secrets, and not one character besides."""
    # "replace" gives "?", which is in no Base64.
    presented = signature.encode("ascii", errors="replace")
    if not any(_signs(secret, body, presented) for secret in client_secrets if secret):
        raise SignatureRefused


def _signs(client_secret: Secret, body: bytes, presented: bytes) -> bool:
    key = client_secret.reveal().encode(errors="surrogatepass")
    return hmac.compare_digest(base64.b64encode(hmac.digest(key, body, hashlib.sha256)), presented)


def _document(body: bytes) -> dict[str, object]:
    problem = ""
    try:
        return parse_json_object(body)
    except UnreadableJson as error:
        problem = error.problem
    raise InvalidField("body", problem)


def _route_webhook(
    app: EnvoyApp, document: Mapping[str, object], meta: Mapping[str, object], digest: bytes
) -> RouteWebhook:
    if meta.get("route") is None and "auth" not in meta:
        raise InvalidField("meta.route", "or meta.event must be given")
    key = _key(app, meta)
    if meta.get("auth") is None:
        raise InvalidField(
            "meta.auth", "is null or absent: the app asked for no scopes, so Envoy gives it no token"
        )
    auth = _object(meta["auth"], "meta.auth")
    access_token = readable_token(auth.get("access_token"))
    if access_token is None:
        raise InvalidField("meta.auth.access_token", "must be a token: printable ASCII, not empty")
    return RouteWebhook(
        key=key,
        company_id=_company_id(auth, meta),
        access_token=access_token,
        token_type=token_fields.token_type(auth.get("token_type")),
        expires_in=token_fields.access_token_lifetime(auth.get("expires_in")),
        digest=digest,
        payload=_payload(document),
    )


def _payload(document: Mapping[str, object]) -> dict[str, object] | None:
    """What the installer submitted, if it is an object: Envoy puts the answer's object in its place."""
    payload = _either(document, _PAYLOAD)
    if not isinstance(payload, dict):
        return None
    repeatable = True
    try:
        json.dumps(payload, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        repeatable = False
    if not repeatable:
        raise InvalidField("payload", "holds something that can't be sent back as JSON")
    return payload


def _key(app: EnvoyApp, meta: Mapping[str, object]) -> InstallKey:
    field = "meta.install_id"
    install_id = token_fields.identifier(meta.get("install_id"))
    if install_id is None:
        raise InvalidField(field, "must be a string or a whole number")
    return InstallKey(app.plugin_id, checked_id(install_id, field))


def _check_plugin_id(app: EnvoyApp, value: object) -> None:
    if value is not None and app.verify_plugin_id and token_fields.identifier(value) != app.plugin_id:
        raise InvalidField("meta.plugin_id", "is not the app that this address belongs to")


def _company_id(auth: Mapping[str, object], meta: Mapping[str, object]) -> str:
    company = meta.get("company")
    of_company = company.get("id") if isinstance(company, dict) else None
    said = (auth.get("company_id"), of_company, meta.get("company_id"))
    return next(filter(None, map(token_fields.company_id, said)), "")


def _either(document: Mapping[str, object], names: tuple[str, str]) -> object:
    first, second = names
    return document[first] if first in document else document.get(second)


def _object(value: object, field: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidField(field, "must be a JSON object")
    return value
