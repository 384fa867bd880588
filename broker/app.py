"""The composition root: the only place that knows every adapter. Starts, drains, stops."""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import psycopg
import structlog

from broker import __version__, telemetry
from broker.adapters.clock import Dice, SteadyClock
from broker.adapters.envoy.client import EnvoyClient
from broker.adapters.envoy.webhooks import EnvoyWebhookReader
from broker.adapters.envoy.wire import ClientAuthentication, RequestForm
from broker.adapters.keys import TinkCipher, generate_keyset
from broker.adapters.postgres.connections import Connections, check_database_url
from broker.adapters.postgres.migrate import NEWEST_VERSION, MigrationChanged, migrate
from broker.adapters.postgres.store import PostgresInstallStore
from broker.api.handlers import Admission
from broker.api.installs import InstallsServicer
from broker.api.server import GrpcServer
from broker.api.token_broker import TokenBrokerServicer
from broker.config import Address, Settings, load_settings, variable_of
from broker.domain.apps import Apps
from broker.domain.errors import Overloaded, StoreUnavailable
from broker.domain.installs import Holding
from broker.service.accept_route_webhook import AcceptRouteWebhook
from broker.service.batch_get_tokens import BatchGetTokens
from broker.service.get_token import GetToken
from broker.service.installs import Installs
from broker.service.list_installs import ListInstalls
from broker.service.refresher import Refresher, RefreshTiming
from broker.service.token_cache import TokenCache
from broker.web.app import web_app
from broker.web.ingress import WebhookIngress
from broker.web.server import HttpServer, listen, web_config

__all__ = [
    "GRPC_ADDRESS",
    "HTTP_ADDRESS",
    "AddressTaken",
    "Broker",
    "MigrationChanged",
    "bound",
    "generate_keyset",
    "migrate",
    "read_settings",
    "serve",
    "stop_signal",
]

log = structlog.get_logger(__name__)

READINESS_INTERVAL: Final = timedelta(seconds=1)
SECOND_SIGNAL_EXIT: Final = 1
GRPC_ADDRESS: Final = variable_of("grpc_address")
HTTP_ADDRESS: Final = variable_of("http_address")


class AddressTaken(Exception):
    """An address can't be listened at. Names the setting to change."""

    def __init__(self, setting: str, address: Address, error: OSError) -> None:
        super().__init__(f"{setting}: can't listen at {address}: {error.strerror or error}")


def bound(setting: str, address: Address) -> socket.socket:
    """A socket that listens at `address`.

    Raises:
        AddressTaken: names `setting`.
    """
    try:
        return listen(*address)
    except OSError as error:
        raise AddressTaken(setting, address, error) from error


class Broker:
    """A whole broker on the running event loop."""

    def __init__(self, settings: Settings, *, tracing: bool) -> None:
        """Opens nothing yet."""
        self._settings = settings
        self._clock = SteadyClock()
        self._connections = Connections(
            settings.database_url,
            max_size=settings.database_connections,
            patience=settings.database_seconds,
        )
        cipher = TinkCipher(settings.keyset)
        self._store = PostgresInstallStore(self._connections, cipher, self._clock)
        self._endpoint = EnvoyClient(
            settings.envoy_token_url,
            clock=self._clock,
            form=RequestForm(settings.envoy_request_form),
            authentication=ClientAuthentication(settings.envoy_client_authentication),
        )
        self._admission = Admission(settings.calls_in_flight)
        self._compose(Apps(settings.envoy_apps()), tracing=tracing)
        self._http: HttpServer | None = None
        self._readiness: asyncio.Task[None] | None = None
        self._problem: str | None = "starting"
        self.grpc_port = self.http_port = 0

    def _compose(self, apps: Apps, *, tracing: bool) -> None:
        settings, clock, store = self._settings, self._clock, self._store
        cache = TokenCache(max_entries=settings.cache_entries, max_staleness=settings.cache_staleness_seconds)

        def remember(holding: Holding) -> None:
            cache.put(holding, clock.now())

        self._refresher = Refresher(
            store=store,
            endpoint=self._endpoint,
            apps=apps,
            clock=clock,
            randomness=Dice(),
            timing=RefreshTiming(
                call=settings.call_seconds, claim=settings.claim_seconds, margin=settings.claim_margin_seconds
            ),
            owner=f"{socket.gethostname()}:{os.getpid()}",
            max_in_flight=settings.refreshes_in_flight,
            on_change=remember,
        )
        accept = AcceptRouteWebhook(
            apps=apps,
            reader=EnvoyWebhookReader(),
            store=store,
            refresher=self._refresher,
            clock=clock,
            on_change=remember,
            trust_vouched=settings.trust_vouched_webhooks,
        )
        get_token = GetToken(apps=apps, store=store, cache=cache, refresher=self._refresher, clock=clock)
        installs = Installs(apps=apps, store=store, refresher=self._refresher, on_change=remember)
        self._grpc = GrpcServer(
            TokenBrokerServicer(
                accept_route_webhook=accept,
                get_token=get_token,
                batch_get_tokens=BatchGetTokens(get_token),
                apps=apps,
                clock=clock,
            ),
            InstallsServicer(installs=installs, list_installs=ListInstalls(store), clock=clock),
            self._admission,
            with_reflection=settings.reflection,
            traced=tracing,
        )
        self._web = web_app(WebhookIngress(accept), self._readiness_problem)

    async def start(self) -> None:
        """Listen, and begin to look for the database.

        Raises:
            AddressTaken: nothing is left open.
        """
        listener = bound(HTTP_ADDRESS, self._settings.http_address)
        try:
            # grpc says of a taken port only that it failed, and prints its own lines: ask first.
            bound(GRPC_ADDRESS, self._settings.grpc_address).close()
            self.grpc_port = await self._grpc.start(str(self._settings.grpc_address))
        except (AddressTaken, OSError):
            listener.close()
            raise
        drain_seconds = self._settings.drain_seconds.total_seconds()
        self._http = HttpServer(web_config(self._web, drain_seconds=drain_seconds), listener)
        self.http_port = self._http.port
        self._http.start()
        await self._connections.open()
        self._readiness = asyncio.create_task(self._watch_readiness())

    async def ready(self) -> None:
        """Wait until the broker serves."""
        while await self._readiness_problem() is not None:
            await self._clock.sleep(timedelta(milliseconds=20))

    async def stop(self) -> None:
        """Drain: not ready, in-flight calls end, attempts under way are kept, all is closed."""
        self._problem = "stopping"
        if self._readiness is not None:
            self._readiness.cancel()
        drain_seconds = self._settings.drain_seconds.total_seconds()
        try:
            async with asyncio.timeout(drain_seconds):
                await asyncio.gather(
                    self._grpc.stop(drain_seconds), self._http.stop() if self._http else asyncio.sleep(0)
                )
                await self._refresher.drain()
        except TimeoutError:
            log.warning("broker.drain_ran_out", seconds=drain_seconds)
        await self._connections.close()

    async def _readiness_problem(self) -> str | None:
        return self._problem

    async def _watch_readiness(self) -> None:
        while True:
            try:
                problem = await self._database_problem()
            except Overloaded:
                # Busy is not away: the last verdict stands.
                problem = self._problem
            except Exception:
                log.exception("broker.readiness_failed")
                problem = "the database could not be asked; the log says why"
            if problem != self._problem:
                log.info("broker.ready" if problem is None else "broker.not_ready", problem=problem)
                await self._grpc.set_serving(serving=problem is None)
                self._problem = problem
            await self._clock.sleep(READINESS_INTERVAL)

    async def _database_problem(self) -> str | None:
        try:
            version = await self._store.schema_version()
        except StoreUnavailable:
            return "the database can't be reached, or has no schema (see `token-broker migrate`)"
        except psycopg.Error as error:
            return f"the database refuses to be asked for its schema (SQLSTATE {error.sqlstate})"
        if version < NEWEST_VERSION:
            return "the database's schema is older than this release; run `token-broker migrate`"
        return None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`, judged also by those who will use them.

    Raises:
        SettingsError: with every problem there is.
    """
    return load_settings(environ, {"keyset": TinkCipher, "database_url": check_database_url})


async def serve(settings: Settings) -> None:
    """Run a broker until SIGTERM or SIGINT. The first drains it, the second ends it at once.

    Raises:
        AddressTaken.
    """
    telemetry.configure_logging(settings.log_format, settings.log_level)
    broker = Broker(settings, tracing=telemetry.configure_tracing())
    asked_to_stop = stop_signal()
    await broker.start()
    log.info(
        "broker.started",
        version=__version__,
        grpc=str(settings.grpc_address.at(broker.grpc_port)),
        http=str(settings.http_address.at(broker.http_port)),
        envoy=settings.envoy_token_url,
    )
    await asked_to_stop.wait()
    log.info("broker.draining")
    await broker.stop()
    log.info("broker.stopped")


def stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second exits at once."""
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            os._exit(SECOND_SIGNAL_EXIT)
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return asked
