"""The composition root: the only place that knows every adapter. Starts, drains, stops."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping

import psycopg
import structlog

from broker import descriptors
from broker.adapters import keys as keysets
from broker.adapters.clock import Dice, SteadyClock
from broker.adapters.envoy.client import EnvoyClient
from broker.adapters.envoy.webhooks import EnvoyWebhookReader
from broker.adapters.envoy.wire import ClientAuthentication, RequestForm
from broker.adapters.postgres import census as postgres_census
from broker.adapters.postgres.connections import Connections, check_database_url
from broker.adapters.postgres.hints import PostgresHints
from broker.adapters.postgres.migrate import NEWEST_VERSION
from broker.adapters.postgres.provider_health import PostgresProviderHealth
from broker.adapters.postgres.seal_check import SealCheck
from broker.adapters.postgres.store import PostgresInstallStore
from broker.api.caller_rates import CallerRates
from broker.api.callers import Reception
from broker.api.handlers import Admission, Admissions
from broker.api.installs import InstallsServicer
from broker.api.server import GrpcServer
from broker.api.token_broker import TokenBrokerServicer
from broker.config import Address, Settings, load_settings, variable_of
from broker.domain.apps import Apps
from broker.domain.errors import StoreUnavailable
from broker.domain.provider_health import ProviderLimits
from broker.doors import GRPC_ADDRESS, HTTP_ADDRESS, AddressTaken, Doors
from broker.entrance import Entrance
from broker.operations import Operations
from broker.readiness import Readiness
from broker.service.attempts import RefreshTiming
from broker.service.use_cases import Bounds, Ports, UseCases
from broker.telemetry.exporters import Telemetry
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
]

log = structlog.get_logger(__name__)


def bound(setting: str, address: Address, *, shared: bool = False) -> socket.socket:
    """A socket that listens at `address`; `shared`: with other workers.

    Raises:
        AddressTaken: names `setting`.
    """
    try:
        return listen(*address, shared=shared)
    except OSError as error:
        raise AddressTaken(setting, address, error) from error


class Broker:
    """A whole broker on the running event loop. Attributes: use_cases: what it does, behind its doors."""

    def __init__(self, settings: Settings, telemetry: Telemetry, *, worker: int | None = None) -> None:
        """Opens nothing yet. `worker`: its number, if it is one of several."""
        self._settings = settings
        self._clock = SteadyClock()
        self._connections = Connections(
            settings.database_url,
            max_size=settings.database_connections,
            patience=settings.database_seconds,
        )
        self._limits = ProviderLimits(settings.envoy_calls_per_second, probe_life=settings.claim_seconds)
        cipher = keysets.cipher_of(settings.keyset, settings.keyset_kms_uri)
        self._store = PostgresInstallStore(self._connections, cipher, self._clock)
        self._seal_check = SealCheck(self._connections, cipher, self._clock)
        self._hints = PostgresHints(self._connections, settings.database_direct_url or settings.database_url)
        apps = Apps(settings.envoy_apps())
        self._entrance = Entrance(settings, self._clock)
        self.use_cases = UseCases(self._ports(), apps, bounds(settings))
        self._worker = worker
        self._admissions = Admissions(Admission(settings.calls_in_flight), Admission(settings.watch_streams))
        self._grpc = self._grpc_server(apps, traced=telemetry.traced)
        self._readiness = Readiness(
            database_problem=self._database_problem,
            open_circuits=self.use_cases.gate.held_apps,
            door_shut=self._entrance.shut_because,
            door_remarks=self._entrance.remarks,
            on_change=lambda ready: self._grpc.set_serving(serving=ready),
            clock=self._clock,
        )
        self._census_connections = Connections(
            settings.database_url, max_size=1, patience=postgres_census.PATIENCE
        )
        census = postgres_census.PostgresCensus(self._census_connections, self._limits, self._clock)
        self._operations = Operations(settings, telemetry, census, self._clock)
        self._operations.observe(
            self.use_cases,
            readiness=self._readiness,
            admission=self._admissions.calls,
            connections=self._connections,
            entrance=self._entrance,
        )
        self._web = web_app(WebhookIngress(self.use_cases.accept_route_webhook), self._readiness)
        self._http: HttpServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.grpc_port = self.http_port = 0

    def _ports(self) -> Ports:
        settings, randomness = self._settings, Dice()
        return Ports(
            store=self._store,
            health=PostgresProviderHealth(self._connections, self._limits, randomness),
            endpoint=EnvoyClient(
                settings.envoy_token_url,
                clock=self._clock,
                form=RequestForm(settings.envoy_request_form),
                authentication=ClientAuthentication(settings.envoy_client_authentication),
                propagates_trace=settings.propagate_trace_to_envoy,
            ),
            reader=EnvoyWebhookReader(),
            hints=self._hints,
            clock=self._clock,
            randomness=randomness,
            authorizer=self._entrance.authorizer,
            audit=self._entrance.audit,
        )

    def _grpc_server(self, apps: Apps, *, traced: bool) -> GrpcServer:
        use_cases, clock = self.use_cases, self._clock
        return GrpcServer(
            TokenBrokerServicer(
                accept_route_webhook=use_cases.accept_route_webhook,
                get_token=use_cases.get_token,
                batch_get_tokens=use_cases.batch_get_tokens,
                report_rejected_token=use_cases.report_rejected_token,
                watch_tokens=use_cases.watch_tokens,
                apps=apps,
                clock=clock,
            ),
            InstallsServicer(installs=use_cases.installs, list_installs=use_cases.list_installs, clock=clock),
            self._admissions,
            Reception(
                self._entrance.authenticator,
                use_cases.guard,
                CallerRates(self._settings.caller_calls_per_second, time.monotonic_ns),
            ),
            credentials=self._entrance.credentials,
            with_reflection=self._settings.reflection,
            traced=traced,
            shares_port=self._worker is not None,
        )

    async def start(self) -> None:
        """Listen, and begin to look for the database and for what is due.

        Raises:
            AddressTaken: nothing is left open.
        """
        await self.listen(Doors(self._settings.grpc_address, self._settings.http_address))
        await self.begin()

    async def listen(self, doors: Doors) -> None:
        """Open the doors. Who comes is told whether the broker is ready.

        Raises:
            AddressTaken: nothing is left open.
        """
        descriptors.make_room(self._settings.database_connections + self._settings.refreshes_in_flight)
        listener = bound(HTTP_ADDRESS, doors.http, shared=doors.shared)
        try:
            if not doors.shared:
                # grpc says of a taken port only that it failed, and prints its own lines: ask first.
                bound(GRPC_ADDRESS, doors.grpc).close()
            serving = self._readiness.problem is None
            self.grpc_port = await self._grpc.start(str(doors.grpc), serving=serving)
        except (AddressTaken, OSError):
            listener.close()
            raise
        drain_seconds = self._settings.drain_seconds.total_seconds()
        self._http = HttpServer(web_config(self._web, drain_seconds=drain_seconds), listener)
        self.http_port = self._http.port
        self._http.start()

    async def begin(self) -> None:
        """Begin to look for the database and for what is due, doors open or not.

        Raises:
            AddressTaken: of the operations port.
        """
        # First: once a pool is open, its tasks outlive a cancel, and a process that gives up would hang.
        self._operations.listen(self._worker or 0)
        await self._connections.open()
        await self._census_connections.open()
        await self._entrance.start()
        self._hints.start(self.use_cases.hinted, self.use_cases.health_hinted)
        watches = [self._readiness.watch(), self._sweep(), self.use_cases.watch_tokens.run()]
        watches += [*self._entrance.watches(), *self._operations.watches()]
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
        self.use_cases.watch_tokens.close()
        drain_seconds, refresher = self._settings.drain_seconds.total_seconds(), self.use_cases.refresher
        try:
            async with asyncio.timeout(drain_seconds):
                await asyncio.gather(
                    self._grpc.stop(drain_seconds), self._http.stop() if self._http else asyncio.sleep(0)
                )
                await refresher.drain()
        except TimeoutError:
            log.warning(
                "broker.drain_ran_out",
                seconds=drain_seconds,
                installs_in_flight=len(refresher),
                pairs_not_stored=refresher.pairs_not_stored,
            )
        await self._entrance.close()
        await self._hints.stop()
        await self._connections.close()
        await self._census_connections.close()
        await self._operations.close()

    @property
    def operations_port(self) -> int:
        """Where /metrics is; 0: nowhere."""
        return self._operations.port

    async def _sweep(self) -> None:
        await self._readiness.until_ready()
        await self.use_cases.scheduler.run()

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
