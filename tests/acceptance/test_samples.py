"""The user's own samples, byte for byte, through a broker that serves as a process of its own."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import httpx

from broker.sandbox.simulated_envoy.tokens import fingerprint
from tests.integration.served_broker import envoy_url, settings_for
from tests.integration.served_envoy import APP, ServedEnvoy
from tests.processes import TOKEN_BROKER, Finished, running, token_broker

SAMPLES: Final = resources.files("broker.sandbox.simulated_envoy") / "samples"
TOKEN_RESPONSE: Final[dict[str, Any]] = json.loads((SAMPLES / "token_response.json").read_bytes())


@dataclass(frozen=True)
class Served:
    """A serving process, called as a stranger would."""

    grpc: str
    http: str

    async def post(self, sample: str) -> httpx.Response:
        """Send a sample webhook, signed as Envoy's documents say."""
        body = (SAMPLES / f"{sample}.json").read_bytes()
        digest = hmac.digest(APP.client_secret.reveal().encode(), body, hashlib.sha256)
        headers = {"X-Envoy-Signature": base64.b64encode(digest).decode()}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.post(f"{self.http}/envoy/webhooks", content=body, headers=headers)

    async def cli(self, *arguments: str) -> Finished:
        """A client command."""
        return await token_broker(*arguments, "--address", self.grpc)


@asynccontextmanager
async def serving(envoy: ServedEnvoy, database: str, **variables: str) -> AsyncIterator[Served]:
    """`token-broker serve` for the one app, configured as the README says."""
    app = {"ENVOY_CLIENT_ID": APP.client_id, "ENVOY_CLIENT_SECRET": APP.client_secret.reveal()}
    env = settings_for(database, envoy_url(envoy), apps=(APP,), **(app | {"LOG_FORMAT": "json"} | variables))
    del env["TOKEN_BROKER_APPS"]
    async with running(TOKEN_BROKER, "serve", env=env) as process:
        started = json.loads(await process.err.line('"broker.started"'))
        await process.err.line('"broker.ready"')
        yield Served(started["grpc"], f"http://{started['http']}")


async def test_route_webhook_and_token_response_of_the_users_document(
    envoy: ServedEnvoy, database: str
) -> None:
    """Its plugin id is a placeholder, so the broker is not told one; its answer is taken as it stands."""
    await envoy.install("1000000")
    await envoy.behave(overrides=TOKEN_RESPONSE)
    async with serving(envoy, database) as broker:
        answer = await broker.post("route_webhook")
        assert (answer.status_code, answer.json()) == (200, {})
        token = json.loads((await broker.cli("token", "get", "1000000", "--json")).out)
        assert token["access_token"] == TOKEN_RESPONSE["access_token"]
        assert token["token_type"] == TOKEN_RESPONSE["token_type"]
        assert token["company_id"] == TOKEN_RESPONSE["company_id"]
        assert 86_000 < float(token["expires_in"].rstrip("s")) <= TOKEN_RESPONSE["expires_in"]
        refreshed = await broker.cli("installs", "refresh", "1000000", "--json")
        assert refreshed.code == 0, refreshed.err
        assert json.loads(refreshed.out)["state"] == "INSTALL_STATE_ACTIVE"
    entries = await envoy.ledger()
    assert [entry["form"] for entry in entries] == ["multipart"] * len(entries)
    assert entries[1]["token_fingerprint"] == fingerprint(TOKEN_RESPONSE["refresh_token"])


async def test_validation_webhook_is_echoed_and_the_uninstall_buries(
    envoy: ServedEnvoy, database: str
) -> None:
    """The life of an install, by the samples of both other shapes."""
    await envoy.install("1000000")
    async with serving(envoy, database, ENVOY_PLUGIN_ID="4242") as broker:
        answer = await broker.post("validation_webhook")
        submitted = json.loads((SAMPLES / "validation_webhook.json").read_bytes())["payload"]
        assert (answer.status_code, answer.json()) == (200, submitted)
        token = await broker.cli("token", "get", "1000000")
        assert await envoy.is_alive(token.out.strip())
        # The webhook is a hint: the broker asks Envoy, and buries what Envoy gives nothing for.
        await envoy.http.post("/_simulator/installs/1000000/uninstall", json={})
        assert (await broker.post("plugin_uninstalled_webhook")).status_code == 200
        gone = await broker.cli("token", "get", "1000000")
        assert (gone.code, gone.out) == (1, "")
        assert gone.err.startswith("INSTALL_NOT_FOUND")


async def test_placeholder_plugin_id_is_refused_where_the_broker_knows_its_own(
    envoy: ServedEnvoy, database: str
) -> None:
    """Another app's webhook, though it is signed with the same secret, is not this app's."""
    async with serving(envoy, database, ENVOY_PLUGIN_ID="4242") as broker:
        answer = await broker.post("route_webhook")
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert answer.json()["message"].startswith("meta.plugin_id")
    assert await envoy.ledger() == []
