"""The simulated Envoy as a process of its own: `python -m bench.envoy`, and the means to start and use one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from bench.broker import CLIENT_ID, CLIENT_SECRET, HOST, PLUGIN_ID
from bench.processes import ready_line, running
from broker.domain.secret import Secret
from broker.sandbox.simulated_envoy import SimulatedApp, SimulatedEnvoy, server_config

AT_ONCE = 16  # installs made at once
CALL_SECONDS = 30.0


class EnvoyFailedError(Exception):
    """The simulated Envoy, or the broker that it told, did not do what the scenario rests on."""


@dataclass(frozen=True)
class Envoy:
    """A simulated Envoy that is up."""

    pid: int
    url: str
    http: httpx.AsyncClient

    @property
    def token_url(self) -> str:
        """Where tokens are asked for."""
        return f"{self.url}/oauth2/token"

    async def install(self, install_ids: Sequence[str], webhook_url: str = "") -> None:
        """Installs the app so often, and has the broker told each time by a signed webhook, if it has an address.

        Raises:
            EnvoyFailedError: a broker did not take it.
        """
        room = asyncio.Semaphore(AT_ONCE)

        async def one(install_id: str) -> None:
            wanted = {"install_id": install_id, "company_id": install_id}
            if webhook_url:
                wanted["webhook_url"] = webhook_url
            async with room:
                answer = (await self.http.post("/_simulator/installs", json=wanted)).raise_for_status()
            if webhook_url and answer.json()["webhook"]["status"] != httpx.codes.OK:
                raise EnvoyFailedError(f"a webhook was answered with {answer.json()['webhook']['status']}")

        await asyncio.gather(*(one(install_id) for install_id in install_ids))

    async def behave(self, install_id: str, **behaviour: Any) -> None:
        """How to answer token requests for one install."""
        (await self.http.put(f"/_simulator/behaviour/{install_id}", json=behaviour)).raise_for_status()

    async def release(self) -> None:
        """Lets held requests go on."""
        (await self.http.post("/_simulator/release")).raise_for_status()

    async def requests(self, install_id: str, **query: Any) -> int:
        """How many token requests there have been for one install."""
        query = {"install_id": install_id, **query}
        answer = (await self.http.get("/_simulator/ledger", params=query)).raise_for_status()
        return len(answer.json()["entries"])


@asynccontextmanager
async def simulated_envoy(core: int | None) -> AsyncIterator[Envoy]:
    """Runs one on that core."""
    async with running(("python", "-m", "bench.envoy"), core=core) as process:
        url = f"http://{HOST}:{await ready_line(process)}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=CALL_SECONDS) as http:
            yield Envoy(process.pid, url, http)


async def _serve() -> None:
    app = SimulatedApp(PLUGIN_ID, CLIENT_ID, Secret(CLIENT_SECRET))
    listener = socket.create_server((HOST, 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(server_config(SimulatedEnvoy([app]).asgi)).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(_serve())
