"""serve, migrate, keys: what runs a broker."""

import os
import sys
from typing import Annotated, NoReturn

import psycopg
import typer
import uvloop

from broker import app
from broker.config import PREFIX, SettingsError, load_settings

DATABASE_URL = f"{PREFIX}DATABASE_URL"

keys = typer.Typer(help="The keys that seal stored tokens.", no_args_is_help=True)


def serve() -> None:
    """Run a broker, configured by TOKEN_BROKER_* variables (docs/settings.md), until SIGTERM or Ctrl-C."""
    try:
        settings = load_settings(os.environ)
        uvloop.run(app.serve(settings))
    except SettingsError as error:
        fail("these settings can't be:", *error.problems)
    except app.KeysetUnusable as error:
        fail(f"{PREFIX}KEYSET: {error}")
    except app.AddressTaken as error:
        fail(str(error))


def migrate(
    database_url: Annotated[
        str,
        typer.Option(envvar=DATABASE_URL, help="Postgres, as the owner of the schema.", show_default=False),
    ],
) -> None:
    """Bring the database's schema up to this release. Safe beside running brokers, and to run twice."""
    try:
        applied = app.migrate(database_url)
    except (psycopg.Error, app.MigrationChanged) as error:
        fail(f"{DATABASE_URL}: {str(error).strip()}")
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")


@keys.command("generate")
def generate_keys() -> None:
    """Print a new keyset, for TOKEN_BROKER_KEYSET or the file that TOKEN_BROKER_KEYSET_FILE names."""
    typer.echo(app.generate_keyset().reveal())


def fail(*lines: str) -> NoReturn:
    """Say on stderr what is wrong, and exit with 1."""
    print(*lines, sep="\n  ", file=sys.stderr)  # noqa: T201 (this is the command line)
    raise typer.Exit(1)
