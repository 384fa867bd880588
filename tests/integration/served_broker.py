"""A whole broker in this event loop, over a real Postgres and a simulated Envoy, with its clients' doors."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
import httpx
import psycopg
from psycopg.rows import dict_row

from broker import app, offline
from broker.config import load_settings
from broker.sandbox.simulated_envoy import SimulatedApp
from broker.sandbox.simulated_envoy.webhooks import SIGNATURE_HEADER, sign
from broker.telemetry.exporters import Telemetry
from tests.databases import direct_url
from tests.integration.served_envoy import APP, ServedEnvoy
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc, token_broker_pb2, token_broker_pb2_grpc

if TYPE_CHECKING:
    from tokenbroker.v1.installs_pb2_grpc import InstallsAsyncStub
    from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerAsyncStub

INSTALL_ID: Final = "1000000"
COMPANY_ID: Final = "100000"
CALL_SECONDS: Final = 30
ANY_PORT: Final = "127.0.0.1:0"
KEYSET: Final = offline.keysets.generate_keyset().reveal()

_AGE: Final = """
UPDATE token_broker.installs
SET issued_at = issued_at - %(by)s, expires_at = expires_at - %(by)s, refresh_due_at = refresh_due_at - %(by)s,
    retry_at = retry_at - %(by)s
WHERE install_id = %(install_id)s
"""


def settings_for(
    database: str, url: str, *, apps: Sequence[SimulatedApp] = (APP,), **variables: str
) -> dict[str, str]:
    """The environment of a broker at free ports. `variables` are settings without their prefix."""
    direct = direct_url(database)
    around = {"DATABASE_DIRECT_URL": direct} if direct != database else {}
    named = {
        "DATABASE_URL": database,
        "KEYSET": KEYSET,
        "ENVOY_TOKEN_URL": f"{url}/oauth2/token",
        "GRPC_ADDRESS": ANY_PORT,
        "HTTP_ADDRESS": ANY_PORT,
        "INSECURE_SERVE_ANYBODY": "true",
        "REFLECTION": "true",
        "LAME_DUCK_SECONDS": "0",
        "DRAIN_SECONDS": "10",
        "APPS": json.dumps([_app_entry(each) for each in apps]),
    }
    return {f"TOKEN_BROKER_{name}": value for name, value in (named | around | variables).items()}


def _app_entry(simulated: SimulatedApp) -> dict[str, str]:
    return {
        "plugin_id": simulated.plugin_id,
        "client_id": simulated.client_id,
        "client_secret": simulated.client_secret.reveal(),
    }


@dataclass(frozen=True)
class ServedBroker:
    """The doors of a running broker."""

    broker: app.Broker
    envoy: ServedEnvoy
    database: str
    apps: Sequence[SimulatedApp]
    channel: grpc.aio.Channel
    http: httpx.AsyncClient

    @property
    def tokens(self) -> "TokenBrokerAsyncStub":
        """The service that users of tokens call."""
        return token_broker_pb2_grpc.TokenBrokerStub(self.channel)

    @property
    def installs(self) -> "InstallsAsyncStub":
        """The service that operators call."""
        return installs_pb2_grpc.InstallsStub(self.channel)

    @property
    def grpc_address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.broker.grpc_port}"

    def webhook_url(self, plugin_id: str = "") -> str:
        """Where Envoy is told to post its webhooks."""
        path = f"/envoy/webhooks/{plugin_id}" if plugin_id else "/envoy/webhooks"
        return str(self.http.base_url.join(path))

    async def install(self, install_id: str = INSTALL_ID, **fields: Any) -> dict[str, Any]:
        """Envoy installs the app, and tells the broker by its signed webhook; what came of that."""
        url = self.webhook_url(fields.get("plugin_id", ""))
        done = await self.envoy.install(install_id, webhook_url=url, **fields)
        delivered: dict[str, Any] = done["webhook"]
        return delivered

    async def installed(self, install_id: str = INSTALL_ID, **fields: Any) -> None:
        """Envoy installs the app, and the broker has its pair."""
        assert (await self.install(install_id, **fields))["status"] == httpx.codes.OK

    async def get_token(
        self, install_id: str = INSTALL_ID, **fields: Any
    ) -> token_broker_pb2.GetTokenResponse:
        """GetToken."""
        request = token_broker_pb2.GetTokenRequest(install_id=install_id, **fields)
        return await self.tokens.GetToken(request, timeout=CALL_SECONDS)

    async def get_install(self, install_id: str = INSTALL_ID, plugin_id: str = "") -> installs_pb2.Install:
        """GetInstall."""
        request = installs_pb2.GetInstallRequest(install_id=install_id, plugin_id=plugin_id)
        return (await self.installs.GetInstall(request, timeout=CALL_SECONDS)).install

    async def refresh(self, install_id: str = INSTALL_ID, plugin_id: str = "") -> installs_pb2.Install:
        """RefreshInstall."""
        request = installs_pb2.RefreshInstallRequest(install_id=install_id, plugin_id=plugin_id)
        return (await self.installs.RefreshInstall(request, timeout=CALL_SECONDS)).install

    async def accept(self, body: bytes, signature: str, plugin_id: str = "") -> Any:
        """AcceptRouteWebhook, signed."""
        signed = token_broker_pb2.SignedWebhook(body=body, signature=signature)
        request = token_broker_pb2.AcceptRouteWebhookRequest(plugin_id=plugin_id, signed=signed)
        return await self.tokens.AcceptRouteWebhook(request, timeout=CALL_SECONDS)

    async def post(self, body: bytes, signature: str, plugin_id: str = "") -> httpx.Response:
        """The same webhook over HTTP, as Envoy sends it."""
        return await self.http.post(
            self.webhook_url(plugin_id), content=body, headers={SIGNATURE_HEADER.encode(): signature.encode()}
        )

    def rows(self) -> list[dict[str, Any]]:
        """Every install, as the database has it."""
        return rows_of(self.database)

    def age(self, install_id: str, by: timedelta) -> None:
        """Let the install's tokens and its last failure be `by` older than they are, for who has no cache."""
        with psycopg.connect(self.database) as connection:
            connection.execute(_AGE, {"by": by, "install_id": install_id})

    def replica(self) -> AbstractAsyncContextManager["ServedBroker"]:
        """Another broker on the same database, which has read nothing yet."""
        return served_broker(self.envoy, self.database, self.apps)

    def signature(self, body: bytes) -> str:
        """What Envoy would send with `body`, for the first of the apps."""
        return sign(body, self.apps[0].client_secret)


def envoy_url(envoy: ServedEnvoy) -> str:
    """Its base URL, without a slash at the end."""
    return str(envoy.http.base_url).rstrip("/")


def rows_of(database: str) -> list[dict[str, Any]]:
    """Every install in `database`."""
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return connection.execute(
            "SELECT * FROM token_broker.installs ORDER BY plugin_id, install_id"
        ).fetchall()


@asynccontextmanager
async def served_broker(
    envoy: ServedEnvoy,
    database: str,
    apps: Sequence[SimulatedApp] = (APP,),
    *,
    ready: bool = True,
    **variables: str,
) -> AsyncIterator[ServedBroker]:
    """Runs a broker; `ready`: returns when it serves."""
    environ = settings_for(database, envoy_url(envoy), apps=apps, **variables)
    broker = app.Broker(load_settings(environ), Telemetry(scraped=False))
    await broker.start()
    try:
        if ready:
            await broker.ready()
        base_url = f"http://127.0.0.1:{broker.http_port}"
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{broker.grpc_port}") as channel,
            httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=CALL_SECONDS) as http,
        ):
            yield ServedBroker(broker, envoy, database, apps, channel, http)
    finally:
        await broker.stop()
