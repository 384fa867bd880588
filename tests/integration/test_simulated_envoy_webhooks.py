"""The simulated Envoy's webhooks: shaped as the samples, signed as Envoy signs, sent to this machine only."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.integration.served_envoy import APP, OTHER_APP, ServedEnvoy, served_envoy, serving


@dataclass
class EnvoyApp:
    """An app's webhook endpoint: keeps what it got, and answers what it is told to."""

    url: str = ""
    received: list[tuple[bytes, str]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)

    async def webhook(self, request: Request) -> Response:
        """Any webhook."""
        self.received.append((await request.body(), request.headers["x-envoy-signature"]))
        return self.answers.pop(0) if self.answers else Response(b"{}", media_type="application/json")


@asynccontextmanager
async def running_app() -> AsyncIterator[EnvoyApp]:
    """Serves an app's webhook endpoint."""
    app = EnvoyApp()
    routes = Starlette(routes=[Route("/hook", app.webhook, methods=["POST"])])
    async with serving(uvicorn.Config(routes, log_config=None, ws="none")) as port:
        app.url = f"http://127.0.0.1:{port}/hook"
        yield app


@pytest.fixture
async def app() -> AsyncIterator[EnvoyApp]:
    """An app's webhook endpoint."""
    async with running_app() as running:
        yield running


@pytest.fixture
async def envoy() -> AsyncIterator[ServedEnvoy]:
    """One app, no install."""
    async with served_envoy() as served:
        yield served


def verified_as_the_sdk_does(body: bytes, signature: str) -> bool:
    """EnvoySignatureVerifier of the Node SDK: HMAC of the raw body, Base64, compared as text."""
    computed = base64.b64encode(hmac.new(b"make-believe-secret", body, hashlib.sha256).digest())
    return hmac.compare_digest(signature.encode(), computed)


async def test_route_webhook_has_the_shape_of_the_users_document(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """The sample, with the ids and a live token filled in."""
    await envoy.install("1000000", company_id=100000, webhook_url=app.url)
    [(body, signature)] = app.received
    assert verified_as_the_sdk_does(body, signature)
    webhook = json.loads(body)
    token = webhook["request_meta"]["auth"].pop("access_token")
    assert webhook == {
        "name": "route",
        "request_meta": {
            "auth": {
                "state": None,
                "company_id": "100000",
                "expires_in": 86400,
                "token_type": "Bearer",
                "refresh_token": None,
                "refresh_token_expires_in": None,
            },
            "route": "step-0-field-1-options",
            "plugin_id": "4242",
            "install_id": 1000000,
        },
    }
    assert await envoy.is_alive(token)


async def test_validation_webhook_carries_what_was_asked(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """The {meta, payload} shape, which is what the Node SDK reads."""
    fields: dict[str, Any] = {
        "config": {"site": "Zürich"},
        "params": {"configure_step": 1},
        "payload": {"notify": True},
        "route": "step-1-callback",
    }
    await envoy.install("1000000", kind="validation", webhook_url=app.url, **fields)
    [(body, signature)] = app.received
    assert verified_as_the_sdk_does(body, signature)
    webhook = json.loads(body)
    assert webhook["payload"] == fields["payload"]
    assert {name: webhook["meta"][name] for name in ("config", "params", "route")} == {
        name: fields[name] for name in ("config", "params", "route")
    }
    assert webhook["meta"]["company"]["id"] == "100000"
    assert await envoy.is_alive(webhook["meta"]["auth"]["access_token"])


async def test_auth_is_null_where_it_is_asked_for(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """An app that asked for no scopes gets no token in its webhooks."""
    await envoy.install(webhook_url=app.url, auth=None)
    assert json.loads(app.received[0][0])["request_meta"]["auth"] is None


async def test_install_id_that_is_no_number_stays_text(envoy: ServedEnvoy) -> None:
    """Leading zeroes too: an id is a name, not a quantity."""
    for install_id in ("inst-7", "007"):
        sent = (await envoy.install(install_id))["webhook"]["sent"]["body"]
        assert json.loads(sent)["request_meta"]["install_id"] == install_id


async def test_install_is_known_before_its_webhook_arrives(envoy: ServedEnvoy) -> None:
    """An app mints while it handles the webhook."""
    minted: list[dict[str, Any]] = []

    async def webhook(_: Request) -> Response:
        minted.append(await envoy.mint())
        return Response()

    routes = Starlette(routes=[Route("/", webhook, methods=["POST"])])
    async with serving(uvicorn.Config(routes, log_config=None, ws="none")) as port:
        await envoy.install(webhook_url=f"http://localhost:{port}/")
    assert await envoy.is_alive(minted[0]["refresh_token"])


async def test_unsent_webhook_is_handed_back_signed(envoy: ServedEnvoy) -> None:
    """For whoever presents it by another way than HTTP."""
    webhook = (await envoy.install())["webhook"]
    assert (webhook["status"], webhook["attempts"]) == (None, 0)
    sent = webhook["sent"]
    assert verified_as_the_sdk_does(sent["body"].encode(), sent["headers"]["X-Envoy-Signature"])


async def test_webhook_is_replayed_byte_for_byte(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """A webhook has no time-stamp and no nonce: a replay is the same webhook."""
    await envoy.install("1000000", webhook_url=app.url)
    for _ in range(2):
        await envoy.http.post("/_simulator/installs/1000000/webhook", json={})
    assert len(app.received) == 3
    assert len(set(app.received)) == 1


async def test_validation_answer_takes_the_payloads_place_in_the_config(
    envoy: ServedEnvoy, app: EnvoyApp
) -> None:
    """What is not echoed is not saved, and a null removes."""
    app.answers.append(Response(b'{"kept": 1, "old": null}', media_type="application/json"))
    installed = await envoy.install(
        kind="validation", webhook_url=app.url, config={"old": 1, "site": "HQ"}, payload={"lost": 1}
    )
    assert installed["install"]["config"] == {"site": "HQ", "kept": 1}
    assert installed["webhook"]["body"] == {"kept": 1, "old": None}


async def test_refused_validation_shows_its_message_and_saves_nothing(
    envoy: ServedEnvoy, app: EnvoyApp
) -> None:
    """The installer reads the message, and the step is blocked."""
    app.answers.append(Response(b'{"message": "Not this site."}', 422, media_type="application/json"))
    installed = await envoy.install(kind="validation", webhook_url=app.url, config={})
    assert (installed["webhook"]["status"], installed["webhook"]["body"]["message"]) == (
        422,
        "Not this site.",
    )
    assert installed["install"]["config"] == {}


async def test_uninstall_revokes_the_tokens_and_tells_the_app(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """After it Envoy refuses both grants; a new install begins afresh."""
    await envoy.install("1000000")
    pair = await envoy.mint()
    answer = await envoy.http.post("/_simulator/installs/1000000/uninstall", json={"webhook_url": app.url})
    assert answer.json()["install"]["installed"] is False
    [(body, signature)] = app.received
    assert verified_as_the_sdk_does(body, signature)
    meta = json.loads(body)["meta"]
    assert (meta["event"], meta["install_id"], meta["plugin_id"]) == ("plugin_uninstalled", 1000000, 4242)
    assert not await envoy.is_alive(pair["access_token"])
    assert (await envoy.refresh(pair["refresh_token"])).json()["error"] == "invalid_grant"
    refused = await envoy.token(grant_type="plugin_install", install_id="1000000")
    assert refused.json()["error"] == "invalid_grant"
    await envoy.install("1000000")
    assert not await envoy.is_alive(pair["refresh_token"])
    await envoy.mint()


async def test_webhook_is_sent_once_unless_retries_are_asked_for(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """A test counts deliveries; Envoy's retries would blur the count."""
    app.answers.append(Response(status_code=500))
    installed = await envoy.install(webhook_url=app.url)
    assert (installed["webhook"]["status"], installed["webhook"]["attempts"]) == (500, 1)
    assert len(app.received) == 1


@pytest.mark.parametrize(("failures", "attempts"), [(2, 3), (9, 6)])
async def test_retries_end_with_success_or_after_five(
    envoy: ServedEnvoy, app: EnvoyApp, failures: int, attempts: int
) -> None:
    """Envoy sends a webhook that was not answered 2xx five times more."""
    app.answers.extend(Response(status_code=503) for _ in range(failures))
    installed = await envoy.install(webhook_url=app.url, retries=True, retry_interval_seconds=0)
    assert installed["webhook"]["attempts"] == attempts
    assert len(app.received) == attempts
    assert len(set(app.received)) == 1


async def test_app_that_is_away_is_an_answer_too(envoy: ServedEnvoy) -> None:
    """The install stands, whatever became of the webhook."""
    async with running_app() as gone:
        url = gone.url
    installed = await envoy.install(webhook_url=url)
    assert (installed["webhook"]["status"], installed["webhook"]["error"]) == (None, "ConnectError")
    await envoy.mint()


async def test_redirected_webhook_is_not_followed(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """A redirect could lead off this machine."""
    app.answers.append(Response(status_code=307, headers={"Location": app.url}))
    assert (await envoy.install(webhook_url=app.url))["webhook"]["status"] == 307
    assert len(app.received) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://localhost.example.com/",
        "http://user@127.0.0.1/",
        "http://[::]/",
        "file:///etc/passwd",
        "127.0.0.1:80",
        "",
    ],
)
async def test_webhook_to_elsewhere_is_refused(envoy: ServedEnvoy, url: str) -> None:
    """A developer's tool must not be a way to reach other machines; and nothing is installed."""
    asked = {"install_id": "1", "company_id": "1", "webhook_url": url}
    answer = await envoy.http.post("/_simulator/installs", json=asked)
    assert (answer.status_code, answer.json()["field"]) == (400, "webhook_url")
    assert (await envoy.http.get("/_simulator/installs/1")).status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"install_id": ""}, "install_id"),
        ({"install_id": "9" * 300}, "install_id"),
        ({"install_id": True}, "install_id"),
        ({"company_id": None}, "company_id"),
        ({"plugin_id": "nobody's"}, "plugin_id"),
        ({"kind": "event"}, "kind"),
        ({"auth": {}}, "auth"),
        ({"webhok_url": "x"}, "webhok_url"),
    ],
)
async def test_bad_install_names_its_field(envoy: ServedEnvoy, change: dict[str, Any], field: str) -> None:
    """The developer reads which field it was."""
    asked = {"install_id": "1", "company_id": "1"} | change
    answer = await envoy.http.post("/_simulator/installs", json=asked)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_with_two_apps_the_plugin_must_be_named(app: EnvoyApp) -> None:
    """And each app's webhooks are signed with its own secret."""
    async with served_envoy((APP, OTHER_APP)) as envoy:
        asked = {"install_id": "1", "company_id": "1", "webhook_url": app.url}
        answer = await envoy.http.post("/_simulator/installs", json=asked)
        assert (answer.status_code, answer.json()["field"]) == (400, "plugin_id")
        await envoy.install("1", plugin_id=APP.plugin_id, webhook_url=app.url)
        await envoy.install("1", plugin_id=OTHER_APP.plugin_id, webhook_url=app.url)
    assert [verified_as_the_sdk_does(*received) for received in app.received] == [True, False]


async def test_huge_answer_to_a_webhook_is_not_kept(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """An app under development may answer anything."""
    app.answers.append(Response(b" " * 2_000_000))
    webhook = (await envoy.install(webhook_url=app.url))["webhook"]
    assert (webhook["status"], webhook["body"], webhook["error"]) == (200, None, "the answer is too large")


async def test_answer_that_is_no_json_is_shown_as_text(envoy: ServedEnvoy, app: EnvoyApp) -> None:
    """The developer sees the error page of a framework."""
    app.answers.append(Response(b"<h1>oops \xff</h1>", 500))
    assert (await envoy.install(webhook_url=app.url))["webhook"]["body"] == "<h1>oops \ufffd</h1>"
