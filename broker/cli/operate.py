"""serve, migrate: what runs a broker."""

import os
from typing import Annotated, Final

import typer

from broker.cli.failure import fail
from broker.config import SettingsError, secret_setting, variable_of

DATABASE_URL: Final = variable_of("database_url")


def serve() -> None:
    """Run a broker, configured by TOKEN_BROKER_* variables (docs/settings.md), until SIGTERM or Ctrl-C."""
    import uvloop

    from broker import app

    try:
        uvloop.run(app.serve(app.read_settings(os.environ)))
    except SettingsError as error:
        fail("these settings can't be:", *error.problems)
    except app.AddressTaken as error:
        fail(str(error))


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
