"""A simulated Envoy behind real uvicorn on a free port, with a clock that tests move."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from broker.domain.secret import Secret
from broker.sandbox.simulated_envoy import SimulatedApp, SimulatedEnvoy, server_config
from broker.sandbox.simulated_envoy.tokens import fingerprint

APP = SimulatedApp("4242", "client-1", Secret("make-believe-secret"))
OTHER_APP = SimulatedApp("4343", "client-2", Secret("another-make-believe-secret"))
CALL_SECONDS = 30
CREDENTIALS = {"client_id": APP.client_id, "client_secret": APP.client_secret.reveal()}


class ManualClock:
    """Unix seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        """The time, as `SimulatedEnvoy` asks for it."""
        return self.now


@dataclass(frozen=True)
class ServedEnvoy:
    """The doors of a running simulated Envoy."""

    http: httpx.AsyncClient
    clock: ManualClock
    port: int

    async def token(self, **fields: str) -> httpx.Response:
        """A token request in the form of Envoy's documents."""
        parts = {name: (None, value) for name, value in (CREDENTIALS | fields).items()}
        return await self.http.post("/oauth2/token", files=parts)

    async def mint(self, install_id: str = "1000000") -> dict[str, Any]:
        """A fresh pair."""
        return self._issued(await self.token(grant_type="plugin_install", install_id=install_id))

    async def refresh(self, refresh_token: str) -> httpx.Response:
        """The refresh_token grant."""
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token)

    async def refreshed(self, refresh_token: str) -> dict[str, Any]:
        """The next pair."""
        return self._issued(await self.refresh(refresh_token))

    async def install(self, install_id: str = "1000000", **fields: Any) -> dict[str, Any]:
        """Installs the app; without a webhook_url nothing is sent."""
        asked = {"install_id": install_id, "company_id": "100000"} | fields
        return self._json(await self.http.post("/_simulator/installs", json=asked))

    async def behave(self, install_id: str = "", **fields: Any) -> None:
        """Sets how to behave."""
        path = "/_simulator/behaviour" + (f"/{install_id}" if install_id else "")
        self._json(await self.http.put(path, json=fields))

    async def ledger(self, **query: Any) -> list[dict[str, Any]]:
        """The ledger's entries."""
        entries: list[dict[str, Any]] = self._json(await self.http.get("/_simulator/ledger", params=query))[
            "entries"
        ]
        return entries

    async def release(self) -> None:
        """Lets held requests go on."""
        self._json(await self.http.post("/_simulator/release"))

    async def is_alive(self, token: str) -> bool:
        """Whether Envoy would take the token."""
        answer = await self.http.get(f"/_simulator/tokens/{fingerprint(token)}")
        alive: bool = self._json(answer)["alive"]
        return alive

    def _issued(self, answer: httpx.Response) -> dict[str, Any]:
        return self._json(answer)

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document


@asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncIterator[int]:
    """Runs a uvicorn server on a free port of this machine, which it yields."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield listener.getsockname()[1]
    finally:
        await server.shutdown(sockets=[listener])


@asynccontextmanager
async def served_envoy(apps: Sequence[SimulatedApp] = (APP,)) -> AsyncIterator[ServedEnvoy]:
    """Runs a simulated Envoy."""
    clock = ManualClock()
    simulated = SimulatedEnvoy(apps, clock=clock, seed=1)
    async with serving(server_config(simulated.asgi)) as port, door_of_envoy(port) as http:
        yield ServedEnvoy(http, clock, port)


def door_of_envoy(port: int) -> httpx.AsyncClient:
    """A client that keeps no connection: one that the server gives up at that very moment fails the next request."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=CALL_SECONDS, limits=limits
    )
