"""Everything a broker needs to run without an account: Postgres, a simulated Envoy, and the broker itself."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker import app
from broker.config import PREFIX, Address, Settings, SettingsError
from broker.domain.secret import Secret
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.progress import Progress
from broker.sandbox.simulated_envoy import SimulatedApp, SimulatedEnvoy, server_config
from broker.web.server import HttpServer

# The ids of the user's own sample webhooks.
PLUGIN_ID: Final = "4242"
CLIENT_ID: Final = "simulated-client-id"
CLIENT_SECRET: Final = "simulated-client-secret"  # noqa: S105 (opens nothing but the simulated Envoy)
ENVOY_ADDRESS_VARIABLE: Final = f"{PREFIX}SANDBOX_ENVOY_ADDRESS"
ADDRESSES: Final[dict[str, Address]] = {
    f"{PREFIX}GRPC_ADDRESS": Settings.model_fields["grpc_address"].default,
    f"{PREFIX}HTTP_ADDRESS": Settings.model_fields["http_address"].default,
    ENVOY_ADDRESS_VARIABLE: Address("127.0.0.1", 8081),
}
TOKEN_PATH: Final = "/oauth2/token"  # noqa: S105 (a path)
ANY_PORT: Final = "127.0.0.1:0"
KEYSET_FILE: Final = "keyset.json"
REAL_CREDENTIALS: Final = (f"{PREFIX}ENVOY_CLIENT_ID", f"{PREFIX}ENVOY_CLIENT_SECRET")


@dataclass(frozen=True, slots=True)
class Stack:
    """What is running, and where. `envoy_url` is the simulated Envoy's, or None with the real one."""

    settings: Settings
    broker: app.Broker
    envoy_url: str | None

    @property
    def grpc(self) -> str:
        """Where the broker answers gRPC."""
        return f"{self.settings.grpc_address.host}:{self.broker.grpc_port}"

    @property
    def http(self) -> str:
        """Where the broker takes webhooks."""
        return f"http://{self.settings.http_address.host}:{self.broker.http_port}"


def has_real_credentials(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a real app, so that the real Envoy is used."""
    client_id, secret = REAL_CREDENTIALS
    return bool(environ.get(client_id)) and bool(environ.get(secret) or environ.get(f"{secret}_FILE"))


@asynccontextmanager
async def running_stack(
    environ: Mapping[str, str], *, data_dir: Path | None, any_ports: bool, progress: Progress
) -> AsyncIterator[Stack]:
    """Start all of it, and stop it in the right order: the broker drains while its database still runs.

    Raises:
        SettingsError, app.AddressTaken, EmbeddedPostgresError.
    """
    environ = {**environ, **(dict.fromkeys(ADDRESSES, ANY_PORT) if any_ports else {})}
    _check_addresses(environ)
    with progress.step("postgres") as step:
        postgres = EmbeddedPostgres(data_dir=data_dir)
        await asyncio.to_thread(postgres.start)
        step.says(f"Postgres {postgres.programs.version} ({postgres.programs.source})")
    try:
        database_url = postgres.dsn()
        with progress.step("migrate") as step:
            applied = await asyncio.to_thread(app.migrate, database_url)
            step.says(f"schema: {', '.join(applied) or 'up to date'}")
        private = {f"{PREFIX}DATABASE_URL": database_url, f"{PREFIX}KEYSET": _keyset(data_dir)}
        async with _envoy(environ, progress) as (envoy_url, envoy_settings):
            settings = app.read_settings({**_without_private(environ), **envoy_settings, **private})
            async with _running_broker(settings, progress) as broker:
                yield Stack(settings, broker, envoy_url)
    finally:
        await asyncio.to_thread(postgres.stop)


def _address(environ: Mapping[str, str], variable: str) -> Address:
    text = environ.get(variable)
    try:
        return Address.parse(text) if text else ADDRESSES[variable]
    except ValueError as error:
        raise SettingsError([f"{variable}: {error}"]) from None


def _check_addresses(environ: Mapping[str, str]) -> None:
    """Whether all ports are free, before anything is started that takes a while."""
    for variable in ADDRESSES:
        if variable != ENVOY_ADDRESS_VARIABLE or not has_real_credentials(environ):
            app.bound(variable, _address(environ, variable)).close()


@asynccontextmanager
async def _envoy(
    environ: Mapping[str, str], progress: Progress
) -> AsyncIterator[tuple[str | None, dict[str, str]]]:
    """A simulated Envoy and the settings that point to it; or neither, with real credentials."""
    if has_real_credentials(environ):
        with progress.step("envoy") as step:
            step.says("the REAL Envoy, since TOKEN_BROKER_ENVOY_CLIENT_ID and _CLIENT_SECRET are set")
        yield None, {}
        return
    address = _address(environ, ENVOY_ADDRESS_VARIABLE)
    with progress.step("envoy") as step:
        listener = app.bound(ENVOY_ADDRESS_VARIABLE, address)
        envoy = SimulatedEnvoy([SimulatedApp(PLUGIN_ID, CLIENT_ID, Secret(CLIENT_SECRET))])
        server = HttpServer(server_config(envoy.asgi), listener)
        server.start()
        url = f"http://{address.host}:{server.port}"
        step.says(f"a simulated Envoy at {url}")
    try:
        yield (
            url,
            {
                f"{PREFIX}ENVOY_PLUGIN_ID": PLUGIN_ID,
                f"{PREFIX}ENVOY_CLIENT_ID": CLIENT_ID,
                f"{PREFIX}ENVOY_CLIENT_SECRET": CLIENT_SECRET,
                f"{PREFIX}ENVOY_TOKEN_URL": url + TOKEN_PATH,
            },
        )
    finally:
        await server.stop()


@asynccontextmanager
async def _running_broker(settings: Settings, progress: Progress) -> AsyncIterator[app.Broker]:
    with progress.step("broker") as step:
        broker = app.Broker(settings, tracing=False)
        await broker.start()
        await broker.ready()
        step.says(
            f"the broker: gRPC at {settings.grpc_address.host}:{broker.grpc_port}, "
            f"HTTP at http://{settings.http_address.host}:{broker.http_port}"
        )
    try:
        yield broker
    finally:
        await broker.stop()


def _without_private(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what the sandbox brings itself."""
    own = (f"{PREFIX}DATABASE_URL", f"{PREFIX}KEYSET", ENVOY_ADDRESS_VARIABLE)
    return {name: value for name, value in environ.items() if not name.startswith(own)}


def _keyset(data_dir: Path | None) -> str:
    """A new keyset, or the one that was kept beside the data it sealed."""
    if data_dir is None:
        return app.generate_keyset().reveal()
    path = data_dir.expanduser() / KEYSET_FILE
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        keyset = app.generate_keyset().reveal()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(keyset)
        return keyset
