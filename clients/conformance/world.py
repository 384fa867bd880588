"""The world of a run: a real broker with its database, the simulated Envoy, and an API that answers as it is told."""

import asyncio
import io
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from broker.sandbox.progress import Progress
from broker.sandbox.stack import CLIENT_ID, CLIENT_SECRET, TOKEN_PATH, running_stack
from broker.web.server import HttpServer, listen, web_config
from clients.conformance.grammar import API
from clients.conformance.orders import Orders
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc

CALL_SECONDS: Final = 30
LOOPBACK: Final = "127.0.0.1"
METHODS: Final = ["GET", "POST", "PUT"]
_FIRST_INSTALL: Final = 1_000_001


class ScriptedApi:
    """An HTTP API in Envoy's place.

    Attributes:
        answers: statuses, one a request, 200 after them.
        seen: requests.
        orders: the scenario's, which may hold the answers.
    """

    def __init__(self) -> None:
        self.orders = Orders()
        self.answers: list[int] = []
        self.seen: list[dict[str, Any]] = []
        self.redirects_to = ""
        self._server: HttpServer | None = None

    async def start(self) -> None:
        """Listen."""
        routes = [
            Route("/redirect", self._redirect, methods=METHODS),
            Route("/{path:path}", self._answer, methods=METHODS),
        ]
        app = Starlette(routes=routes)
        self._server = HttpServer(web_config(app, drain_seconds=1), listen(LOOPBACK, 0))
        self._server.start()

    async def stop(self) -> None:
        """Close."""
        if self._server is not None:
            await self._server.stop()

    @property
    def origin(self) -> str:
        """http://HOST:PORT."""
        assert self._server is not None
        return f"http://{LOOPBACK}:{self._server.port}"

    async def _answer(self, request: Request) -> Response:
        body = (await request.body()).decode()
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        status = self.answers.pop(0) if self.answers else httpx.codes.OK
        self.seen.append({"method": request.method, "token": token, "body": body})
        await self.orders.wait(self.orders.held, API)
        return Response("an answer", status)

    async def _redirect(self, _: Request) -> Response:
        return RedirectResponse(f"{self.redirects_to}/redirected", status_code=307)


class World:
    """What scenarios of one client have in common; each takes installs of its own."""

    def __init__(self, broker: str, webhooks: str, envoy: httpx.AsyncClient) -> None:
        self.broker = broker
        self.api, self.elsewhere = ScriptedApi(), ScriptedApi()
        self.envoy = envoy
        self._webhooks = webhooks
        self._channel = grpc.aio.insecure_channel(broker)
        self._operator = installs_pb2_grpc.InstallsStub(self._channel)
        self._ids = itertools.count(_FIRST_INSTALL)

    async def start(self) -> None:
        """Open the two APIs."""
        await self.api.start()
        await self.elsewhere.start()
        self.api.redirects_to = self.elsewhere.origin

    async def stop(self) -> None:
        """Close what was opened."""
        await self.api.stop()
        await self.elsewhere.stop()
        await self._channel.close()

    @property
    def envoy_origin(self) -> str:
        """The simulated Envoy's."""
        return str(self.envoy.base_url).rstrip("/")

    def new_id(self) -> str:
        """An install id that no scenario has had."""
        return str(next(self._ids))

    async def install(self, install_id: str) -> None:
        """Envoy installs the app at a company of its own, and the broker has the pair."""
        done = await self._post(
            "/_simulator/installs",
            install_id=install_id,
            company_id=company_of(install_id),
            webhook_url=self._webhooks,
        )
        assert done["webhook"]["status"] == httpx.codes.OK, done

    async def uninstall(self, install_id: str) -> None:
        """The company removes the app; the broker is told."""
        await self._post(f"/_simulator/installs/{install_id}/uninstall", webhook_url=self._webhooks)

    async def refresh(self, install_id: str) -> None:
        """The broker fetches a new pair."""
        request = installs_pb2.RefreshInstallRequest(install_id=install_id)
        await self._operator.RefreshInstall(request, timeout=CALL_SECONDS)

    async def refuse(self, install_id: str) -> None:
        """Envoy gives the install no more tokens, and the broker has learnt it."""
        await self._behave(install_id, refuse="grant")
        try:
            await self.refresh(install_id)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise

    async def break_envoy(self, install_id: str) -> None:
        """Envoy answers nothing of use for this install."""
        await self._behave(install_id, status=503)

    async def heal_envoy(self, install_id: str) -> None:
        """Envoy behaves again as it is documented, for this install."""
        await self.envoy.delete(f"/_simulator/behaviour/{install_id}")

    async def kill_token(self, install_id: str) -> None:
        """Envoy revokes the install's tokens, and nobody tells the broker."""
        await self._behave(install_id, mint_invalidates_earlier=True)
        fields = {
            "grant_type": "plugin_install",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "install_id": install_id,
        }
        answer = await self.envoy.post(TOKEN_PATH, data=fields)
        assert answer.status_code == httpx.codes.OK, answer.text

    async def takes(self, token: str, install_id: str) -> bool:
        """Whether Envoy takes the token, for this install's company."""
        answer = await self.envoy.get(
            f"/api/v3/companies/{company_of(install_id)}", headers={"authorization": f"Bearer {token}"}
        )
        return answer.status_code == httpx.codes.OK

    async def _behave(self, install_id: str, **fields: Any) -> None:
        answer = await self.envoy.put(f"/_simulator/behaviour/{install_id}", json=fields)
        assert answer.status_code == httpx.codes.OK, answer.text

    async def _post(self, path: str, **fields: Any) -> dict[str, Any]:
        answer = await self.envoy.post(path, json=fields)
        assert answer.status_code == httpx.codes.OK, answer.text
        document: dict[str, Any] = answer.json()
        return document


def company_of(install_id: str) -> str:
    """Each install's is its own, so that another's token is told from it."""
    return f"company-{install_id}"


@asynccontextmanager
async def running_world() -> AsyncIterator[World]:
    """Everything is up as long as the block runs."""
    environ = {"TOKEN_BROKER_CACHE_STALENESS_SECONDS": "1", "TOKEN_BROKER_LOG_LEVEL": "error"}
    async with running_stack(
        environ, data_dir=None, secured=None, any_ports=True, progress=Progress(io.StringIO())
    ) as stack:
        assert stack.envoy_url is not None
        async with httpx.AsyncClient(
            base_url=stack.envoy_url, trust_env=False, timeout=CALL_SECONDS
        ) as envoy:
            world = World(stack.grpc, f"{stack.http}/envoy/webhooks", envoy)
            await world.start()
            try:
                yield world
            finally:
                await world.stop()
                await asyncio.sleep(0)
