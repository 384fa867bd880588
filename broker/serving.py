"""A broker as a process: from its settings to SIGTERM."""

import asyncio

import structlog

from broker import __version__
from broker.app import Broker
from broker.config import Settings, SettingsError
from broker.doors import Doors
from broker.process_hardening import close_process_to_onlookers
from broker.signals import stop_signal
from broker.telemetry.exporters import Telemetry, UnknownProtocol
from broker.telemetry.logs import configure_logging
from broker.worker import Worker

log = structlog.get_logger(__name__)


async def serve(settings: Settings, worker: Worker | None = None) -> None:
    """Run a broker until SIGTERM or SIGINT. The first drains it, the second ends it at once.

    `worker`: this process is one of several. Then the supervisor's end drains it, too.

    Raises:
        AddressTaken, SettingsError.
        SupervisorGone: before there was anything to drain.
    """
    close_process_to_onlookers()
    configure_logging(settings.log_format, settings.log_level)
    try:
        telemetry = Telemetry(scraped=settings.operations_address is not None)
    except UnknownProtocol as error:
        raise SettingsError([str(error)]) from None
    broker = Broker(settings, telemetry, worker=worker.index if worker is not None else None)
    asked_to_stop = stop_signal()
    doors = Doors(settings.grpc_address, settings.http_address)
    if worker is not None:
        doors = await worker.doors(settings, asked_to_stop)
    await _open(broker, doors, asked_to_stop)
    if not asked_to_stop.is_set():
        if worker is not None:
            worker.listens()
        _say_where(broker, settings)
    await asked_to_stop.wait()
    log.info("broker.draining")
    await broker.stop()
    log.info("broker.stopped")


def _say_where(broker: Broker, settings: Settings) -> None:
    log.info(
        "broker.started",
        version=__version__,
        grpc=str(settings.grpc_address.at(broker.grpc_port)),
        http=str(settings.http_address.at(broker.http_port)),
        envoy=settings.envoy_token_url,
    )
    if settings.insecure_serve_anybody:
        log.warning("broker.serves_anybody", grpc=str(settings.grpc_address.at(broker.grpc_port)))


async def _open(broker: Broker, doors: Doors, asked_to_stop: asyncio.Event) -> None:
    """Start the broker; its doors are open first or, where another serves meanwhile, last."""
    if not doors.when_ready:
        await broker.listen(doors)
        await broker.begin()
        return
    await broker.begin()
    log.info("broker.listens_when_ready")
    waits = [asyncio.create_task(broker.ready()), asyncio.create_task(asked_to_stop.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if not asked_to_stop.is_set():
        await broker.listen(doors)
