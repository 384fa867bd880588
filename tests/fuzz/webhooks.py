"""Webhooks. The input is the body; it is signed as Envoy signs, and once with what may be a signature of its own."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Final

from broker.adapters.envoy.webhooks import EnvoyWebhookReader
from broker.domain.apps import EnvoyApp
from broker.domain.errors import InvalidField, SignatureRefused
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.lifetimes import LONGEST_LIFETIME
from broker.domain.secret import Secret
from broker.domain.webhooks import OtherWebhook, RouteWebhook, UninstalledWebhook, Webhook
from tests.fuzz.refusals import assert_holds_no_input

ENDS: Final = frozenset({"RouteWebhook", "UninstalledWebhook", "OtherWebhook", "InvalidField"})

APP: Final = EnvoyApp("4242", "client-1", Secret("make-believe-secret"))
READER: Final = EnvoyWebhookReader()


def try_one(data: bytes) -> str:
    """Read it as Envoy's, and as anybody's."""
    _is_refused_unsigned(data)
    try:
        webhook = READER.read(APP, data, _signature(data))
    except InvalidField as error:
        assert_holds_no_input(error)
        return "InvalidField"
    _judge(webhook, data)
    return type(webhook).__name__


def _signature(body: bytes) -> str:
    return base64.b64encode(hmac.digest(APP.client_secret.reveal().encode(), body, "sha256")).decode()


def _is_refused_unsigned(body: bytes) -> None:
    """The first line is a signature of the rest: a fuzzer does not find the right one."""
    signature, _, rest = body.partition(b"\n")
    try:
        READER.read(APP, rest, signature.decode("latin-1"))
    except SignatureRefused:
        return
    raise AssertionError("a signature was made up")


def _judge(webhook: Webhook, body: bytes) -> None:
    if isinstance(webhook, OtherWebhook):
        return
    assert webhook.digest == hashlib.sha256(body).digest()
    assert webhook.key == InstallKey(APP.plugin_id, checked_id(webhook.key.install_id, "install_id"))
    if isinstance(webhook, UninstalledWebhook):
        return
    _judge_route(webhook)


def _judge_route(webhook: RouteWebhook) -> None:
    assert webhook.access_token.reveal().isprintable()
    assert webhook.token_type.isascii()
    assert timedelta(0) < webhook.expires_in <= LONGEST_LIFETIME
    assert not webhook.company_id or checked_id(webhook.company_id, "company_id")
    json.dumps(webhook.payload, allow_nan=False, ensure_ascii=False).encode()
