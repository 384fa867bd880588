"""serve, migrate: what runs a broker."""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Final

import typer

from broker.cli.failure import fail
from broker.config import SettingsError, secret_setting, variable_of
from broker.config.settings import MAX_WORKERS, WorkerCount

DATABASE_URL: Final = variable_of("database_url")
WORKERS: Final = variable_of("workers")


def serve(
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_WORKERS, metavar="N", help=f"How many processes serve; wins over {WORKERS}."
        ),
    ] = None,
    worker: Annotated[
        int | None, typer.Option(hidden=True, help="Be this one of several; only their supervisor says so.")
    ] = None,
) -> None:
    """Run a broker, configured by TOKEN_BROKER_* variables (docs/settings.md), until SIGTERM or Ctrl-C."""
    environ = dict(os.environ) if workers is None else {**os.environ, WORKERS: str(workers)}
    if worker is not None or (count := _worker_count(environ)) == 1:
        _serve_alone(environ, worker)
        return
    if sys.platform != "linux":
        fail(f"{WORKERS}: only Linux deals connections out among several processes at one port")
    from broker.workers import supervise

    raise typer.Exit(supervise(count, environ))


def _serve_alone(environ: Mapping[str, str], index: int | None) -> None:
    """Serve in this process; `index`: as one of several workers."""
    import structlog
    import uvloop

    from broker import app, serving
    from broker.worker import SupervisorGone, Worker

    try:
        worker = None
        if index is not None:
            worker = Worker(index)
            structlog.contextvars.bind_contextvars(worker=index)
        uvloop.run(serving.serve(app.read_settings(environ), worker))
    except SettingsError as error:
        fail("these settings can't be:", *error.problems)
    except app.AddressTaken as error:
        fail(str(error))
    except SupervisorGone:
        fail("a worker needs a supervisor: token-broker serve --workers N")


def _worker_count(environ: Mapping[str, str]) -> int:
    """1 if the variable holds no such number: who reads all settings says so, with whatever else is wrong."""
    from pydantic import TypeAdapter, ValidationError

    count: TypeAdapter[int] = TypeAdapter(WorkerCount)
    try:
        return count.validate_python(environ.get(WORKERS, 1))
    except ValidationError:
        return 1


def migrate(
    grant_to: Annotated[
        str, typer.Option(metavar="ROLE", help="Let this role serve: read and write rows, and no more.")
    ] = "",
) -> None:
    """Bring the database's schema up to this release. Safe beside running brokers, and to run twice.

    TOKEN_BROKER_DATABASE_URL, or the file that TOKEN_BROKER_DATABASE_URL_FILE names, must be the schema owner's.
    """
    import psycopg

    from broker import offline

    try:
        database_url = secret_setting("database_url", os.environ).reveal()
    except SettingsError as error:
        fail(*error.problems)
    try:
        applied = offline.migrate(database_url)
        if grant_to:
            offline.grant_serving(database_url, grant_to)
    except ValueError as error:
        fail(f"{DATABASE_URL} {error}")
    except (psycopg.Error, offline.MigrationChanged) as error:
        fail(f"{DATABASE_URL}: {str(error).strip()}")
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
