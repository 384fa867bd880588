"""A whole broker whose operations port shows the console, and somebody who looks at it."""

import html
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from broker import app
from broker.config import load_settings
from broker.sandbox.simulated_envoy import SimulatedApp
from broker.telemetry.exporters import Telemetry
from tests.integration.served_broker import ANY_PORT, envoy_url, settings_for
from tests.integration.served_envoy import APP, ServedEnvoy

SECONDS: Final = 30
_TAGS: Final = re.compile(r"<[^>]*>")


class ScrapedByNobody(Telemetry):
    """As where somebody asks for /metrics, but for this broker alone: the process's meters stay as they are."""

    def __init__(self) -> None:
        super().__init__(scraped=False)
        self.measured = True
        self.reader = InMemoryMetricReader()


@dataclass(frozen=True)
class ServedConsole:
    """The doors of a broker with a console."""

    broker: app.Broker
    envoy: ServedEnvoy

    @property
    def webhooks(self) -> str:
        """Where Envoy posts its webhooks."""
        return f"http://127.0.0.1:{self.broker.http_port}/envoy/webhooks"

    def url(self, path: str = "", *, scheme: str = "http") -> str:
        """A page's."""
        return f"{scheme}://localhost:{self.broker.operations_port}/console{path}"

    async def installed(self, install_id: str, *, app: SimulatedApp = APP, **fields: str) -> None:
        """Envoy installs the app, and tells the broker, whatever comes of it."""
        url = f"{self.webhooks}/{app.plugin_id}"
        await self.envoy.install(install_id, webhook_url=url, plugin_id=app.plugin_id, **fields)

    @asynccontextmanager
    async def visitor(
        self, *, bearer: str = "", tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody with a browser of their own, who shows a token with each request, or none."""
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        base_url = self.url(scheme="https" if tls else "http")
        async with httpx.AsyncClient(
            base_url=base_url, headers=headers, verify=tls or True, trust_env=False, timeout=SECONDS
        ) as client:
            yield client


@asynccontextmanager
async def served_console(
    envoy: ServedEnvoy, database: str, apps: tuple[SimulatedApp, ...] = (APP,), **variables: str
) -> AsyncIterator[ServedConsole]:
    """Runs one. `variables` are settings without their prefix."""
    wanted = {"OPERATIONS_ADDRESS": ANY_PORT, "CONSOLE": "true"} | variables
    environ = settings_for(database, envoy_url(envoy), apps=apps, **wanted)
    broker = app.Broker(load_settings(environ), ScrapedByNobody())
    await broker.start()
    try:
        await broker.ready()
        yield ServedConsole(broker, envoy)
    finally:
        await broker.stop()


def text_of(page: httpx.Response) -> str:
    """What somebody reads."""
    return " ".join(html.unescape(_TAGS.sub(" ", page.text)).split())


def client_tls(folder: Path, *, certificate: Path | None = None) -> ssl.SSLContext:
    """TLS of a client that trusts the sandbox's authority, and shows the certificate in that folder."""
    context = ssl.create_default_context(cafile=folder / "broker" / "ca.crt")
    if certificate is not None:
        context.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    return context
