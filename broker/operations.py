"""What an operator sees of a running broker from outside: the operations port, and what is sent to a collector."""

import asyncio
import ssl
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import structlog
from starlette.routing import BaseRoute

from broker import __version__
from broker.adapters.postgres.connections import Connections
from broker.api.caller_rates import CallerRates
from broker.api.callers import until_not_found_may_be_told
from broker.api.handlers import Admission
from broker.config import Address, Settings, SettingsError, variable_of
from broker.doors import AddressTaken
from broker.entrance import Entrance
from broker.gauges import Gauges
from broker.ports import Census, Clock
from broker.readiness import Readiness
from broker.service.use_cases import UseCases
from broker.telemetry.exporters import Telemetry
from broker.web import console
from broker.web.operations import operations_app
from broker.web.server import HttpServer, listen, web_config
from broker.web.tls import HttpTlsFiles, NewestTls

log = structlog.get_logger(__name__)

OPERATIONS_ADDRESS: Final = variable_of("operations_address")


class Operations:
    """Attributes: port: of the operations address; 0 while there is none."""

    def __init__(self, settings: Settings, telemetry: Telemetry, census: Census, clock: Clock) -> None:
        """Opens nothing yet.

        Raises:
            SettingsError: the files of TLS are no good.
        """
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._began_at = clock.now()
        self._gauges = Gauges(census, clock)
        self._tls = _tls(settings, clock)
        self._console: list[BaseRoute] = []
        self._http: HttpServer | None = None
        self.port = 0

    def observe(
        self,
        use_cases: UseCases,
        *,
        readiness: Readiness,
        admission: Admission,
        connections: Connections,
        entrance: Entrance,
    ) -> None:
        """Show this broker."""
        self._readiness = readiness
        if self._telemetry.measured:
            self._gauges.observe(
                use_cases,
                readiness=readiness,
                admission=admission,
                connections=connections,
                entrance=entrance,
            )
        if self._settings.console:
            self._console = self._console_over(use_cases, admission, entrance)

    def watches(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run as long as the broker does."""
        if not self._telemetry.measured:
            return []
        return [self._gauges.watch_census(), self._gauges.watch_loop()]

    def listen(self, worker: int) -> None:
        """Open the operations port; that of the worker of this number is so many ports behind.

        Raises:
            AddressTaken.
        """
        address, reader = self._settings.operations_address, self._telemetry.reader
        if address is None or reader is None:
            return
        from broker.telemetry.openmetrics import rendered  # noqa: PLC0415 (the SDK's imports take half a second)

        place = Address(address.host, address.port + worker) if address.port else address
        try:
            listener = listen(*place)
        except OSError as error:
            raise AddressTaken(OPERATIONS_ADDRESS, place, error) from error
        app = operations_app(lambda accept: rendered(reader, accept), self._readiness, self._console)
        drain_seconds = self._settings.drain_seconds.total_seconds()
        self._http = HttpServer(web_config(app, drain_seconds=drain_seconds, tls=self._tls), listener)
        self.port = self._http.port
        self._http.start()
        log.info("operations.open", address=str(place.at(self.port)))

    async def close(self) -> None:
        """Send what has not been sent, and close the port: the last thing that a broker does."""
        if self._http is not None:
            await self._http.stop()
        # In a thread of its own: a stalled resolver may hold all of the event loop's.
        with ThreadPoolExecutor(max_workers=1) as thread:
            await asyncio.get_running_loop().run_in_executor(thread, self._telemetry.close)

    def _console_over(self, use_cases: UseCases, admission: Admission, entrance: Entrance) -> list[BaseRoute]:
        settings = self._settings

        def replica() -> console.Replica:
            return console.Replica(
                name=use_cases.owner,
                version=__version__,
                uptime=self._clock.now() - self._began_at,
                problem=self._readiness.problem,
                remarks=self._readiness.remarks(),
                cached=len(use_cases.cache),
                in_flight=admission.calls,
                refreshing=len(use_cases.refresher),
            )

        door = console.Door(
            entrance.authenticator,
            CallerRates(settings.caller_calls_per_second, time.monotonic_ns).count,
            takes_tokens=settings.jwt_issuer is not None,
            anybody=settings.insecure_serve_anybody,
            over_tls=self._tls is not None,
        )
        shown = console.Shown(replica, lambda: self._gauges.census, self._clock.now)
        return console.console_routes(door, use_cases, shown, until_not_found_may_be_told)


def _tls(settings: Settings, clock: Clock) -> ssl.SSLContext | None:
    """gRPC's, for the console's callers show themselves as gRPC's do; /metrics alone needs none."""
    if not settings.console or settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    authorities = settings.tls_client_ca_file
    files = HttpTlsFiles(
        Path(settings.tls_certificate_file),
        Path(settings.tls_key_file),
        Path(authorities) if authorities is not None else None,
    )
    try:
        return NewestTls(files, clock.now).context
    except OSError:
        problem = (
            f"{variable_of('tls_certificate_file')}: the console can't be served over TLS with these files"
        )
        raise SettingsError([problem]) from None
