"""Webhooks that are not what Envoy sends: refused alike over gRPC and over HTTP, and nothing changes."""

import json
from collections.abc import Awaitable
from typing import Any, Final

import grpc
import grpc.aio
import httpx
import pytest

from broker.domain.webhooks import MAX_BODY_BYTES
from broker.sandbox.simulated_envoy.webhooks import SIGNATURE_HEADER, sign
from tests.integration.refusals import (
    MARK,
    assert_invalid,
    nothing_changes,
    refused_without_a_trace,
)
from tests.integration.served_broker import CALL_SECONDS, ServedBroker
from tests.integration.served_envoy import OTHER_APP
from tokenbroker.v1 import token_broker_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD: Final[dict[str, Any]] = {
    "meta": {
        "route": "step-0-callback",
        "plugin_id": 4242,
        "install_id": 1000000,
        "company": {"id": "100000"},
        "auth": {"token_type": "Bearer", "access_token": MARK, "expires_in": 86400},
    },
    "payload": {"site": MARK},
}


def changed(**meta: Any) -> bytes:
    """The good webhook with other fields in its meta."""
    return json.dumps({**GOOD, "meta": {**GOOD["meta"], **meta}}).encode()


def with_auth(**auth: Any) -> bytes:
    """The good webhook with other fields in its auth."""
    return changed(auth={**GOOD["meta"]["auth"], **auth})


BODY: Final = changed()
BAD_SIGNATURES: Final = {
    "missing": "",
    "of_another_body": sign(b"another", OTHER_APP.client_secret),
    "by_another_secret": sign(BODY, OTHER_APP.client_secret),
    "too_short": MARK[:4],
    "too_long": MARK * 1000,
    "of_the_right_length": MARK.ljust(43, "A") + "=",
    "hexadecimal": MARK + "ab" * 32,
    "prefixed": f"sha256={MARK}",
    "non_ascii": f"{MARK}é",
}
# What is wrong with the body, and the field that the answer names.
BAD_BODIES: Final = {
    "empty": (b"", "body"),
    "truncated": (BODY[:-20], "body"),
    "not_json": (b"<html>" + MARK.encode(), "body"),
    "not_utf8": (b'{"meta": "' + MARK.encode() + b'\xff"}', "body"),
    "a_list": (f'["{MARK}"]'.encode(), "body"),
    "null": (b"null", "body"),
    "nested_deeply": (b'{"a":' + b"[" * 100_000, "body"),
    "no_meta": (json.dumps({"name": MARK}).encode(), "meta"),
    "meta_a_list": (json.dumps({"meta": [MARK]}).encode(), "meta"),
    "meta_null": (b'{"meta": null}', "meta"),
    "another_apps_plugin_id": (changed(plugin_id=4343), "meta.plugin_id"),
    "plugin_id_an_object": (changed(plugin_id={MARK: 1}), "meta.plugin_id"),
    "event_a_number": (changed(event=5), "meta.event"),
    "neither_route_nor_event": (json.dumps({"meta": {"install_id": 1}}).encode(), "meta.route"),
    "no_install_id": (changed(install_id=None), "meta.install_id"),
    "install_id_an_object": (changed(install_id={MARK: 1}), "meta.install_id"),
    "install_id_true": (changed(install_id=True), "meta.install_id"),
    "install_id_a_fraction": (changed(install_id=1.5), "meta.install_id"),
    "install_id_empty": (changed(install_id=""), "meta.install_id"),
    "install_id_huge": (changed(install_id=MARK * 1000), "meta.install_id"),
    "install_id_non_ascii": (changed(install_id=f"{MARK}é"), "meta.install_id"),
    "install_id_with_a_newline": (changed(install_id=f"{MARK}\n"), "meta.install_id"),
    "auth_null": (changed(auth=None), "meta.auth"),
    "auth_a_list": (changed(auth=[MARK]), "meta.auth"),
    "auth_a_string": (changed(auth=MARK), "meta.auth"),
    "access_token_null": (with_auth(access_token=None), "meta.auth.access_token"),
    "access_token_a_number": (with_auth(access_token=5), "meta.auth.access_token"),
    "access_token_empty": (with_auth(access_token=""), "meta.auth.access_token"),
    "access_token_with_a_newline": (with_auth(access_token=f"{MARK}\nX: y"), "meta.auth.access_token"),
    "access_token_non_ascii": (with_auth(access_token=f"{MARK}é"), "meta.auth.access_token"),
    "access_token_huge": (with_auth(access_token=MARK * 10_000), "meta.auth.access_token"),
    "payload_that_is_no_json": (
        BODY.replace(b'{"site": "do-not-show-me"}', b'{"site": NaN, "do-not-show-me": 1}'),
        "payload",
    ),
}


async def answered_without_a_trace(
    broker: ServedBroker, capture: pytest.CaptureFixture[str], call: Awaitable[httpx.Response]
) -> httpx.Response:
    """The same over HTTP: the answer is JSON with a message for a person."""
    async with nothing_changes(broker, capture):
        answer = await call
    assert MARK not in f"{answer.text}{answer.headers}"
    assert list(answer.json()) == ["message"]
    assert answer.json()["message"]
    return answer


@pytest.mark.parametrize("bad", BAD_SIGNATURES)
async def test_f26_bad_signature_is_unauthenticated(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], bad: str
) -> None:
    """Whoever can't sign is not Envoy; a compare that throws would be an error of ours."""
    call = shared_broker.accept(BODY, BAD_SIGNATURES[bad])
    refusal = await refused_without_a_trace(shared_broker, capfd, call)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SIGNATURE_REFUSED")
    assert refusal.field == "signature"


@pytest.mark.parametrize("bad", BAD_SIGNATURES)
async def test_f26_bad_signature_is_401_over_http(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], bad: str
) -> None:
    """Never 500."""
    call = shared_broker.post(BODY, BAD_SIGNATURES[bad])
    answer = await answered_without_a_trace(shared_broker, capfd, call)
    assert answer.status_code == httpx.codes.UNAUTHORIZED


async def test_f26_absent_signature_header_is_401(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even an empty header."""
    call = shared_broker.http.post(shared_broker.webhook_url(), content=BODY)
    answer = await answered_without_a_trace(shared_broker, capfd, call)
    assert answer.status_code == httpx.codes.UNAUTHORIZED


async def test_signature_is_checked_before_the_body_is_read(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stranger must not learn what we make of a body, nor reach the parser."""
    refusal = await refused_without_a_trace(shared_broker, capfd, shared_broker.accept(b"{", ""))
    assert refusal.reason == "SIGNATURE_REFUSED"


@pytest.mark.parametrize("bad", BAD_BODIES)
async def test_f29_bad_body_names_its_field(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], bad: str
) -> None:
    """Signed by Envoy, and yet not what we know."""
    body, field = BAD_BODIES[bad]
    call = shared_broker.accept(body, shared_broker.signature(body))
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), field)


@pytest.mark.parametrize("bad", BAD_BODIES)
async def test_f29_bad_body_is_400_over_http(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], bad: str
) -> None:
    """Envoy shows the message to the person who installs the app."""
    body, field = BAD_BODIES[bad]
    call = shared_broker.post(body, shared_broker.signature(body))
    answer = await answered_without_a_trace(shared_broker, capfd, call)
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert answer.json()["message"].startswith(field)


async def test_f29_body_that_is_too_large_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    """It reaches the check that names its field, and goes no further."""
    body = b'{"padding": "' + MARK.encode().ljust(MAX_BODY_BYTES, b"x") + b'"}'
    call = shared_broker.accept(body, shared_broker.signature(body))
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "body")


async def test_f29_body_of_10_mb_is_refused_by_grpc_itself(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    """GRPC reads a message before anybody asks who sends it: what nobody may send is not kept that long."""
    body = b'{"padding": "' + MARK.encode().ljust(10_000_000, b"x") + b'"}'
    async with nothing_changes(shared_broker, capfd):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await shared_broker.accept(body, shared_broker.signature(body))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert MARK not in str(refused.value)


async def test_f29_body_of_10_mb_is_413_over_http(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sender can read the answer, though we have not read all that it sent."""
    body = b'{"padding": "' + MARK.encode().ljust(10_000_000, b"x") + b'"}'
    call = shared_broker.post(body, shared_broker.signature(body))
    answer = await answered_without_a_trace(shared_broker, capfd, call)
    assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE


async def test_f29_unknown_and_odd_side_fields_cost_nothing(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Envoy may add what it likes; and a token is worth more than the fields beside it."""
    await shared_broker.envoy.install(install_id)
    odd = {"token_type": 7, "expires_in": [], "company_id": {}, "scope": None, "refresh_token": 3}
    body = changed(
        install_id=install_id,
        auth={"access_token": "t", **odd},
        route=None,
        config=3,
        params=[],
        company=[],
        location="x",
        zone=1.5,
        something_new={},
    )
    accepted = await shared_broker.accept(body, shared_broker.signature(body))
    assert accepted.install.install_id == install_id
    assert (await shared_broker.get_token(install_id)).token_type == "Bearer"


async def test_webhook_in_neither_form_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client that forgot the oneof."""
    call = shared_broker.tokens.AcceptRouteWebhook(token_broker_pb2.AcceptRouteWebhookRequest())
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "webhook")


async def test_vouching_is_not_allowed_unless_the_operator_says_so(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any caller could plant a token."""
    vouched = token_broker_pb2.VouchedWebhook(install_id=MARK, access_token=MARK)
    call = shared_broker.tokens.AcceptRouteWebhook(
        token_broker_pb2.AcceptRouteWebhookRequest(vouched=vouched), timeout=CALL_SECONDS
    )
    refusal = await refused_without_a_trace(shared_broker, capfd, call)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/envoy/webhooks", 405),
        ("PUT", "/envoy/webhooks/4242", 405),
        ("DELETE", "/healthz", 405),
        ("POST", "/readyz", 405),
        ("POST", "/envoy/webhook", 404),
        ("POST", "/envoy/webhooks/4242/more", 404),
        ("POST", "/envoy/webhooks/4343", 404),
        ("GET", "/", 404),
        ("GET", "/docs", 404),
    ],
)
async def test_wrong_method_and_unknown_path_are_told_apart(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], method: str, path: str, status: int
) -> None:
    """An operator who mistyped the URL in Envoy's dashboard reads which mistake it was."""
    headers = {SIGNATURE_HEADER: shared_broker.signature(b"")}
    call = shared_broker.http.request(method, path, headers=headers)
    answer = await answered_without_a_trace(shared_broker, capfd, call)
    assert answer.status_code == status
