"""serve, migrate, keys: what runs a broker."""

import os
import sys
from typing import Annotated, Final, NoReturn

import psycopg
import typer
import uvloop

from broker import app
from broker.config import PREFIX, SettingsError

DATABASE_URL: Final = f"{PREFIX}DATABASE_URL"

keys = typer.Typer(help="The keys that seal stored tokens.", no_args_is_help=True)


def serve() -> None:
    """Run a broker, configured by TOKEN_BROKER_* variables (docs/settings.md), until SIGTERM or Ctrl-C."""
    try:
        uvloop.run(app.serve(app.read_settings(os.environ)))
    except SettingsError as error:
        fail("these settings can't be:", *error.problems)
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
    except ValueError as error:
        fail(f"{DATABASE_URL} {error}")
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
