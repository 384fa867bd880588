"""The simulated Envoy's token endpoint: every documented address and form, and the documented answers."""

import base64
import json
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import pytest

from broker.sandbox.simulated_envoy.faults import TOKEN_PATHS
from tests.integration.served_envoy import APP, CREDENTIALS, OTHER_APP, ServedEnvoy, served_envoy

BASIC = "Basic " + base64.b64encode(b"client-1:make-believe-secret").decode()
MINT = {"grant_type": "plugin_install", "install_id": "1000000"}


@pytest.fixture
async def envoy() -> AsyncIterator[ServedEnvoy]:
    """Two apps; the first one has the install 1000000."""
    async with served_envoy((APP, OTHER_APP)) as served:
        await served.install(plugin_id=APP.plugin_id)
        yield served


def sent_as(form: str, fields: dict[str, str]) -> dict[str, Any]:
    """The fields as httpx's arguments."""
    if form == "multipart":
        return {"files": {name: (None, value) for name, value in fields.items()}}
    return {"json": fields} if form == "json" else {"data": fields}


@pytest.mark.parametrize("path", TOKEN_PATHS)
@pytest.mark.parametrize("form", ["multipart", "urlencoded", "json"])
@pytest.mark.parametrize("place", ["body", "basic"])
async def test_every_address_takes_every_form(envoy: ServedEnvoy, path: str, form: str, place: str) -> None:
    """Clients of Envoy differ in all three; each must find what it expects."""
    fields = MINT | (CREDENTIALS if place == "body" else {})
    headers = {} if place == "body" else {"Authorization": BASIC}
    answer = await envoy.http.post(path, headers=headers, **sent_as(form, fields))
    assert answer.status_code == 200
    [entry] = await envoy.ledger()
    assert (entry["path"], entry["form"], entry["credentials"]) == (path, form, place)
    assert (entry["install_id"], entry["plugin_id"]) == ("1000000", APP.plugin_id)


@pytest.mark.parametrize("install_id", [1000000, "1000000"])
async def test_install_id_may_be_a_number_or_a_string(envoy: ServedEnvoy, install_id: object) -> None:
    """Envoy's own documents have both."""
    fields = MINT | CREDENTIALS | {"install_id": install_id}
    assert (await envoy.http.post("/oauth2/token", json=fields)).status_code == 200


async def test_answer_has_the_documented_shape(envoy: ServedEnvoy) -> None:
    """The user's sample shows these fields, and no others."""
    sample = json.loads(
        (resources.files("broker.sandbox.simulated_envoy") / "samples/token_response.json").read_bytes()
    )
    minted = await envoy.mint()
    refreshed = await envoy.refreshed(minted["refresh_token"])
    for pair in (minted, refreshed):
        assert list(pair) == list(sample)
        assert pair["access_token"].startswith("simulated-at-")
        assert pair["refresh_token"].startswith("simulated-rt-")
        assert {name: value for name, value in pair.items() if not name.endswith("_token")} == {
            "token_type": "Bearer",
            "expires_in": 86400,
            "refresh_token_expires_in": 2592000,
            "state": None,
            "company_id": "100000",
        }
    assert minted["refresh_token"] != refreshed["refresh_token"]


async def test_node_sdk_gets_an_installers_token(envoy: ServedEnvoy) -> None:
    """Byte for byte what envoy-integrations-sdk 2.5.2 sends for loginAsPluginInstaller and getCompany."""
    answer = await envoy.http.post(
        "/a/auth/v0/token",
        headers={
            "Accept": "application/json, text/plain, */*",
            "Content-Type": "application/json",
            "Authorization": BASIC,
        },
        content=b'{"grant_type":"plugin_install","install_id":"1000000"}',
    )
    headers = {
        "Accept": "application/vnd.api+json",
        "Content-Type": "application/vnd.api+json",
        "authorization": f"Bearer {answer.json()['access_token']}",
    }
    company = await envoy.http.get("/api/v3/companies/100000", headers=headers)
    assert company.json()["data"]["id"] == "100000"


async def test_node_sdk_gets_the_apps_own_token(envoy: ServedEnvoy) -> None:
    """Its middleware asks for one (loginAsPlugin) before it looks at any webhook; credentials in both places."""
    body = {
        "grant_type": "client_credentials",
        "client_id": "client-1",
        "client_secret": "make-believe-secret",
        "scope": "plugin,token.refresh",
    }
    answer = await envoy.http.post(
        "/a/auth/v0/token", headers={"Authorization": BASIC, "Content-Type": "application/json"}, json=body
    )
    assert answer.json()["expires_in"] == 86400
    [entry] = await envoy.ledger()
    assert (entry["credentials"], entry["install_id"]) == ("both", None)


@pytest.mark.parametrize(
    ("wrong", "header"),
    [
        ({"client_secret": "wrong"}, None),
        ({"client_id": "nobody"}, None),
        ({"client_secret": ""}, None),
        ({"client_id": "client-2"}, BASIC),
        ({"client_secret": "wrong"}, BASIC),
        ({}, "Basic !"),
        ({}, "Bearer abc"),
    ],
)
async def test_wrong_credentials_are_invalid_client(
    envoy: ServedEnvoy, wrong: dict[str, str], header: str | None
) -> None:
    """An app must be able to tell "my secret is wrong" from "this install is gone"."""
    headers = {"Authorization": header} if header else {}
    answer = await envoy.http.post("/oauth2/token", headers=headers, data=MINT | CREDENTIALS | wrong)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_unknown_install_is_invalid_grant(envoy: ServedEnvoy) -> None:
    """Also an install of another app, which must look just the same."""
    await envoy.install("77", plugin_id=OTHER_APP.plugin_id)
    answers = [await envoy.token(grant_type="plugin_install", install_id=unknown) for unknown in ("5", "77")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert [answer.json()["error"] for answer in answers] == ["invalid_grant", "invalid_grant"]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("status", [400, 401])
async def test_refused_refresh_token_has_the_status_that_is_set(envoy: ServedEnvoy, status: int) -> None:
    """It is not documented which of the two Envoy answers."""
    await envoy.behave(refusal_status=status)
    answer = await envoy.refresh("simulated-rt-unknown")
    assert (answer.status_code, answer.json()["error"]) == (status, "invalid_grant")


async def test_refresh_token_is_bound_to_its_client(envoy: ServedEnvoy) -> None:
    """RFC 6749 section 6; and the wrong client's try must not spend it."""
    pair = await envoy.mint()
    stolen = await envoy.token(
        grant_type="refresh_token",
        refresh_token=pair["refresh_token"],
        client_id=OTHER_APP.client_id,
        client_secret=OTHER_APP.client_secret.reveal(),
    )
    assert stolen.json()["error"] == "invalid_grant"
    await envoy.refreshed(pair["refresh_token"])


@pytest.mark.parametrize("grant_type", ["password", "authorization_code", "nonsense"])
async def test_grants_without_users_are_unsupported(envoy: ServedEnvoy, grant_type: str) -> None:
    """The simulated Envoy has no users, and does not pretend to."""
    answer = await envoy.token(grant_type=grant_type)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"grant_type=plugin_install"),
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b'{"grant_type": 7}'),
        ("application/json", b'{"grant_type": "plugin_install", "install_id": true}'),
        ("application/json", b'{"grant_type": "refresh_token", "refresh_token": "\\ud800"}'),
        ("application/json", b"[" * 500_000),
        ("application/json", b" " * 2_000_000),
        ("application/x-www-form-urlencoded", b"grant_type=a&grant_type=b"),
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded", b""),
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b"not a form"),
    ],
)
async def test_malformed_request_is_invalid_request(
    envoy: ServedEnvoy, content_type: str, body: bytes
) -> None:
    """A mistake in a client shows as one, in the ledger too, and never as a 500."""
    answer = await envoy.http.post("/oauth2/token", headers={"Content-Type": content_type}, content=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    [entry] = await envoy.ledger()
    assert (entry["outcome"], entry["answered"]) == ("invalid_request", True)


@pytest.mark.parametrize("fields", [{"grant_type": "plugin_install"}, {"grant_type": "refresh_token"}, {}])
async def test_missing_parameter_is_named(envoy: ServedEnvoy, fields: dict[str, str]) -> None:
    """The developer reads which one."""
    answer = await envoy.token(**fields)
    missing = {"plugin_install": "install_id", "refresh_token": "refresh_token"}
    assert answer.json()["error"] == "invalid_request"
    assert missing.get(fields.get("grant_type", ""), "grant_type") in answer.json()["error_description"]


async def test_answers_never_repeat_what_was_presented(envoy: ServedEnvoy) -> None:
    """A client that logs error bodies should log no secrets of its own."""
    presented = "simulated-rt-somebodys-secret"
    answer = await envoy.refresh(presented)
    assert presented not in answer.text
    assert presented not in json.dumps(await envoy.ledger())


async def test_access_token_opens_only_its_company(envoy: ServedEnvoy) -> None:
    """The way for a test to ask Envoy itself whether a token is alive."""
    pair = await envoy.mint()

    async def status(token: str, company_id: str = "100000") -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return (await envoy.http.get(f"/api/v3/companies/{company_id}", headers=headers)).status_code

    assert await status(pair["access_token"]) == 200
    assert await status(pair["access_token"], "999") == 401
    assert await status(pair["refresh_token"]) == 401
    assert await status("simulated-at-unknown") == 401
    envoy.clock.now += 86_400
    assert await status(pair["access_token"]) == 401


async def test_root_says_what_this_is(envoy: ServedEnvoy) -> None:
    """Whoever opens it in a browser should know at once that nothing here is real."""
    text = (await envoy.http.get("/")).text
    assert "simulated" in text
    assert "/_simulator/ledger" in text
