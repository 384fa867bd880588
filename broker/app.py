"""The composition root: the only place that knows every adapter. Starts, drains, stops."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import psycopg
import structlog

from broker import __version__, descriptors, telemetry
from broker.adapters import keys as keysets
from broker.adapters.clock import Dice, SteadyClock
from broker.adapters.envoy.client import EnvoyClient
from broker.adapters.envoy.webhooks import EnvoyWebhookReader
from broker.adapters.envoy.wire import ClientAuthentication, RequestForm
from broker.adapters.postgres.connections import Connections, check_database_url
from broker.adapters.postgres.hints import PostgresHints
from broker.adapters.postgres.migrate import NEWEST_VERSION
from broker.adapters.postgres.provider_health import PostgresProviderHealth
from broker.adapters.postgres.seal_check import SealCheck
from broker.adapters.postgres.store import PostgresInstallStore
from broker.api.caller_rates import CallerRates
from broker.api.callers import Reception
from broker.api.handlers import Admission
from broker.api.installs import InstallsServicer
from broker.api.server import GrpcServer
from broker.api.token_broker import TokenBrokerServicer
from broker.config import Address, Settings, load_settings, variable_of
from broker.domain.apps import Apps
from broker.domain.errors import StoreUnavailable
from broker.domain.provider_health import ProviderLimits
from broker.entrance import Entrance
from broker.process_hardening import close_process_to_onlookers
from broker.readiness import Readiness
from broker.service.attempts import RefreshTiming
from broker.service.use_cases import Bounds, Ports, UseCases
from broker.signals import stop_signal
from broker.web.app import web_app
from broker.web.ingress import WebhookIngress
from broker.web.server import HttpServer, listen, web_config

__all__ = [
    "GRPC_ADDRESS",
    "HTTP_ADDRESS",
    "AddressTaken",
    "Broker",
    "bound",
    "read_settings",
    "serve",
]

log = structlog.get_logger(__name__)

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
        cipher = keysets.cipher_of(settings.keyset, settings.keyset_kms_uri)
        self._store = PostgresInstallStore(self._connections, cipher, self._clock)
        self._seal_check = SealCheck(self._connections, cipher, self._clock)
        self._hints = PostgresHints(self._connections, settings.database_direct_url or settings.database_url)
        apps = Apps(settings.envoy_apps())
        self._entrance = Entrance(settings, self._clock)
        self._use_cases = UseCases(self._ports(), apps, bounds(settings))
        self._grpc = self._grpc_server(apps, tracing=tracing)
        self._readiness = Readiness(
            database_problem=self._database_problem,
            open_circuits=self._use_cases.gate.held_apps,
            door_shut=self._entrance.shut_because,
            door_remarks=self._entrance.remarks,
            on_change=lambda ready: self._grpc.set_serving(serving=ready),
            clock=self._clock,
        )
        self._web = web_app(WebhookIngress(self._use_cases.accept_route_webhook), self._readiness)
        self._http: HttpServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.grpc_port = self.http_port = 0

    def _ports(self) -> Ports:
        settings, randomness = self._settings, Dice()
        limits = ProviderLimits(settings.envoy_calls_per_second, probe_life=settings.claim_seconds)
        return Ports(
            store=self._store,
            health=PostgresProviderHealth(self._connections, limits, randomness),
            endpoint=EnvoyClient(
                settings.envoy_token_url,
                clock=self._clock,
                form=RequestForm(settings.envoy_request_form),
                authentication=ClientAuthentication(settings.envoy_client_authentication),
            ),
            reader=EnvoyWebhookReader(),
            hints=self._hints,
            clock=self._clock,
            randomness=randomness,
            authorizer=self._entrance.authorizer,
            audit=self._entrance.audit,
        )

    def _grpc_server(self, apps: Apps, *, tracing: bool) -> GrpcServer:
        use_cases, clock = self._use_cases, self._clock
        return GrpcServer(
            TokenBrokerServicer(
                accept_route_webhook=use_cases.accept_route_webhook,
                get_token=use_cases.get_token,
                batch_get_tokens=use_cases.batch_get_tokens,
                report_rejected_token=use_cases.report_rejected_token,
                apps=apps,
                clock=clock,
            ),
            InstallsServicer(installs=use_cases.installs, list_installs=use_cases.list_installs, clock=clock),
            Admission(self._settings.calls_in_flight),
            Reception(
                self._entrance.authenticator,
                use_cases.guard,
                CallerRates(self._settings.caller_calls_per_second, time.monotonic_ns),
            ),
            credentials=self._entrance.credentials,
            with_reflection=self._settings.reflection,
            traced=tracing,
        )

    async def start(self) -> None:
        """Listen, and begin to look for the database and for what is due.

        Raises:
            AddressTaken: nothing is left open.
        """
        descriptors.make_room(self._settings.database_connections + self._settings.refreshes_in_flight)
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
        await self._entrance.start()
        self._hints.start(self._use_cases.hinted, self._use_cases.health_hinted)
        watches = (self._readiness.watch(), self._sweep(), *self._entrance.watches())
        self._tasks = [asyncio.create_task(watch) for watch in watches]

    async def ready(self) -> None:
        """Wait until the broker serves."""
        await self._readiness.until_ready()

    async def stop(self) -> None:
        """Drain: not ready, clients leave, calls under way end, attempts under way are kept, all is closed."""
        self._readiness.stopping()
        for task in self._tasks:
            task.cancel()
        await self._grpc.leave()
        await asyncio.sleep(self._settings.lame_duck_seconds.total_seconds())
        drain_seconds = self._settings.drain_seconds.total_seconds()
        try:
            async with asyncio.timeout(drain_seconds):
                await asyncio.gather(
                    self._grpc.stop(drain_seconds), self._http.stop() if self._http else asyncio.sleep(0)
                )
                await self._use_cases.refresher.drain()
        except TimeoutError:
            refresher = self._use_cases.refresher
            log.warning(
                "broker.drain_ran_out",
                seconds=drain_seconds,
                installs_in_flight=len(refresher),
                pairs_not_stored=refresher.pairs_not_stored,
            )
        await self._entrance.close()
        await self._hints.stop()
        await self._connections.close()

    async def _sweep(self) -> None:
        await self._readiness.until_ready()
        await self._use_cases.scheduler.run()

    async def _database_problem(self) -> str | None:
        try:
            version = await self._store.schema_version()
        except StoreUnavailable:
            return "the database can't be reached, or has no schema (see `token-broker migrate`)"
        except psycopg.Error as error:
            return f"the database refuses to be asked for its schema (SQLSTATE {error.sqlstate})"
        if version < NEWEST_VERSION:
            return "the database's schema is older than this release; run `token-broker migrate`"
        try:
            return await self._seal_check.problem()
        except StoreUnavailable:
            return "the database can't be reached"


def bounds(settings: Settings) -> Bounds:
    """What the use cases need of the settings."""
    return Bounds(
        owner=f"{socket.gethostname()}:{os.getpid()}",
        timing=RefreshTiming(
            call=settings.call_seconds, claim=settings.claim_seconds, margin=settings.claim_margin_seconds
        ),
        refreshes_in_flight=settings.refreshes_in_flight,
        refreshes_waiting=settings.refreshes_waiting,
        calls_per_second=settings.envoy_calls_per_second,
        cache_entries=settings.cache_entries,
        cache_staleness=settings.cache_staleness_seconds,
        rejection_cool_down=settings.rejection_cool_down_seconds,
        sweep_interval=settings.sweep_seconds,
        trust_vouched_webhooks=settings.trust_vouched_webhooks,
    )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`, judged also by those who will use them.

    Raises:
        SettingsError: with every problem there is.
    """
    return load_settings(
        environ,
        {
            "keyset": lambda keyset: keysets.cipher_of(keyset, environ.get(variable_of("keyset_kms_uri"))),
            "database_url": check_database_url,
            "database_direct_url": check_database_url,
        },
    )


async def serve(settings: Settings) -> None:
    """Run a broker until SIGTERM or SIGINT. The first drains it, the second ends it at once.

    Raises:
        AddressTaken.
    """
    close_process_to_onlookers()
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
    if settings.insecure_serve_anybody:
        log.warning("broker.serves_anybody", grpc=str(settings.grpc_address.at(broker.grpc_port)))
    await asked_to_stop.wait()
    log.info("broker.draining")
    await broker.stop()
    log.info("broker.stopped")
