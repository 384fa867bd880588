"""Everything a broker needs to run without an account: Postgres, a simulated Envoy, and the broker itself."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker import app, offline
from broker.config import PREFIX, Address, Settings, SettingsError
from broker.domain.secret import Secret
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.progress import Progress
from broker.sandbox.secured import secure
from broker.sandbox.simulated_envoy import SimulatedApp, SimulatedEnvoy, server_config
from broker.telemetry.exporters import Telemetry
from broker.web.server import HttpServer

# The ids of the user's own sample webhooks.
PLUGIN_ID: Final = "4242"
CLIENT_ID: Final = "simulated-client-id"
CLIENT_SECRET: Final = "simulated-client-secret"  # noqa: S105 (opens nothing but the simulated Envoy)
ENVOY_ADDRESS: Final = Address("127.0.0.1", 8081)
ENVOY_ADDRESS_VARIABLE: Final = f"{PREFIX}SANDBOX_ENVOY_ADDRESS"
TOKEN_PATH: Final = "/oauth2/token"  # noqa: S105 (a path)
ANY_PORT: Final = "127.0.0.1:0"
# Anybody on this machine is served: there is nothing to guard.
_ANYBODY: Final = f"{PREFIX}INSECURE_SERVE_ANYBODY"
KEYSET_FILE: Final = "keyset.json"
# Any of these means the real Envoy; whether they suffice is for the settings to judge.
REAL_APP: Final = (f"{PREFIX}ENVOY_CLIENT_ID", f"{PREFIX}ENVOY_CLIENT_SECRET", f"{PREFIX}APPS")
# What the sandbox brings itself, whatever the environment says.
OWN: Final = (f"{PREFIX}DATABASE_URL", f"{PREFIX}KEYSET", ENVOY_ADDRESS_VARIABLE)


@dataclass(frozen=True, slots=True)
class Stack:
    """What is running, and where.

    Attributes:
        envoy_url: the simulated Envoy's, or None with the real one.
        secured: the folder with the callers' certificates; None where anybody is served.
    """

    settings: Settings
    broker: app.Broker
    envoy_url: str | None
    secured: Path | None

    @property
    def grpc(self) -> str:
        """Where the broker answers gRPC."""
        return str(self.settings.grpc_address.at(self.broker.grpc_port))

    @property
    def http(self) -> str:
        """Where the broker takes webhooks."""
        return f"http://{self.settings.http_address.at(self.broker.http_port)}"


def names_real_app(environ: Mapping[str, str]) -> bool:
    """Whether the environment names an app, wholly or in part, so that the real Envoy is meant."""
    return any(environ.get(name) or environ.get(f"{name}_FILE") for name in REAL_APP)


@asynccontextmanager
async def running_stack(
    environ: Mapping[str, str],
    *,
    data_dir: Path | None,
    secured: Path | None,
    any_ports: bool,
    progress: Progress,
) -> AsyncIterator[Stack]:
    """Start all of it, and stop it in the right order: the broker drains while its database still runs.

    Raises:
        SettingsError, app.AddressTaken, EmbeddedPostgresError, OSError (`secured` can't be written).
    """
    door = {_ANYBODY: "true"} if secured is None else secure(secured)
    settings = _settings({**door, **environ}, any_ports=any_ports)
    envoy_address = None if names_real_app(environ) else _envoy_address(environ, any_ports=any_ports)
    _check_ports(settings, envoy_address)
    with progress.step("postgres") as step:
        postgres = EmbeddedPostgres(data_dir=data_dir)
        await asyncio.to_thread(postgres.start)
        step.says(f"Postgres {postgres.programs.version} ({postgres.programs.source})")
    try:
        with progress.step("migrate") as step:
            applied = await asyncio.to_thread(offline.migrate, postgres.dsn())
            step.says(f"schema: {', '.join(applied) or 'up to date'}")
        async with _envoy(envoy_address, progress) as envoy_url:
            own: dict[str, object] = {"database_url": Secret(postgres.dsn()), "keyset": _keyset(data_dir)}
            if envoy_url is not None:
                own["envoy_token_url"] = envoy_url + TOKEN_PATH
            settings = settings.model_copy(update=own)
            async with _running_broker(settings, progress) as broker:
                yield Stack(settings, broker, envoy_url, secured)
    finally:
        await asyncio.to_thread(postgres.stop)


def _settings(environ: Mapping[str, str], *, any_ports: bool) -> Settings:
    """The settings as far as they are known before anything runs; what the sandbox brings is stood in for."""
    chosen = {name: value for name, value in environ.items() if not name.startswith(OWN)}
    chosen[f"{PREFIX}DATABASE_URL"] = "postgresql://"
    chosen[f"{PREFIX}KEYSET"] = offline.keysets.generate_keyset().reveal()
    chosen.setdefault(f"{PREFIX}REFLECTION", "true")
    # Nobody balances calls over one broker.
    chosen.setdefault(f"{PREFIX}LAME_DUCK_SECONDS", "0")
    if any_ports:
        chosen |= {f"{PREFIX}GRPC_ADDRESS": ANY_PORT, f"{PREFIX}HTTP_ADDRESS": ANY_PORT}
    if not names_real_app(environ):
        chosen |= {
            f"{PREFIX}ENVOY_PLUGIN_ID": PLUGIN_ID,
            f"{PREFIX}ENVOY_CLIENT_ID": CLIENT_ID,
            f"{PREFIX}ENVOY_CLIENT_SECRET": CLIENT_SECRET,
        }
    return app.read_settings(chosen)


def _envoy_address(environ: Mapping[str, str], *, any_ports: bool) -> Address:
    text = ANY_PORT if any_ports else environ.get(ENVOY_ADDRESS_VARIABLE, "")
    try:
        return Address.parse(text) if text else ENVOY_ADDRESS
    except ValueError as error:
        raise SettingsError([f"{ENVOY_ADDRESS_VARIABLE}: {error}"]) from None


def _check_ports(settings: Settings, envoy_address: Address | None) -> None:
    """Whether all ports are free, before anything is started that takes a while."""
    app.bound(app.GRPC_ADDRESS, settings.grpc_address).close()
    app.bound(app.HTTP_ADDRESS, settings.http_address).close()
    if envoy_address is not None:
        app.bound(ENVOY_ADDRESS_VARIABLE, envoy_address).close()


@asynccontextmanager
async def _envoy(address: Address | None, progress: Progress) -> AsyncIterator[str | None]:
    """A simulated Envoy's URL; or None, where the real one is meant."""
    if address is None:
        with progress.step("envoy") as step:
            step.says(
                "the REAL Envoy, since the environment names an app of yours (TOKEN_BROKER_ENVOY_CLIENT_ID)"
            )
        yield None
        return
    with progress.step("envoy") as step:
        listener = app.bound(ENVOY_ADDRESS_VARIABLE, address)
        envoy = SimulatedEnvoy([SimulatedApp(PLUGIN_ID, CLIENT_ID, Secret(CLIENT_SECRET))])
        server = HttpServer(server_config(envoy.asgi), listener)
        server.start()
        url = f"http://{address.at(server.port)}"
        step.says(f"a simulated Envoy at {url}")
    try:
        yield url
    finally:
        await server.stop()


@asynccontextmanager
async def _running_broker(settings: Settings, progress: Progress) -> AsyncIterator[app.Broker]:
    broker = app.Broker(settings, Telemetry(scraped=settings.operations_address is not None))
    try:
        with progress.step("broker") as step:
            await broker.start()
            await broker.ready()
            stack = Stack(settings, broker, None, None)
            step.says(f"the broker: gRPC at {stack.grpc}, HTTP at {stack.http}")
        yield broker
    finally:
        await broker.stop()


def _keyset(data_dir: Path | None) -> Secret:
    """A new keyset, or the one that was kept beside the data it sealed."""
    if data_dir is None:
        return offline.keysets.generate_keyset()
    path = data_dir.expanduser() / KEYSET_FILE
    try:
        return Secret(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        keyset = offline.keysets.generate_keyset()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(keyset.reveal())
        return keyset
