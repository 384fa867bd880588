"""audit: whether an audit trail is whole, by its files alone; no broker is asked (docs/audit.md)."""

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, cast

import typer

from broker.cli.failure import fail
from broker.config import SettingsError, secret_setting, variable_of

if TYPE_CHECKING:
    from broker.offline import audit_trails

AUDIT_KEY: Final = variable_of("audit_key")
GZIP_SUFFIX: Final = ".gz"

audit = typer.Typer(help="The audit trail: who got which token when.", no_args_is_help=True)


@audit.command("verify")
def verify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Its files, the oldest first; .gz are unpacked.")
    ],
    public_key: Annotated[
        list[str], typer.Option(help="As `audit public-key` prints it. Repeat it if the key was changed.")
    ],
    *,
    interleaved: Annotated[bool, typer.Option(help="Several processes wrote to one file.")] = False,
) -> None:
    """Say whether any line was changed, dropped, moved or added. Exits with 0 if there is no problem."""
    from broker.offline import audit_trails

    problems = 0
    try:
        for finding in audit_trails.verify_trail(
            _opened(files), _parsed(public_key), interleaved=interleaved
        ):
            is_problem = finding.weight is audit_trails.Weight.PROBLEM
            problems += is_problem
            typer.echo(f"{finding.weight}: {finding.place}: {finding.text}", err=is_problem)
    except (OSError, EOFError, zlib.error) as error:
        fail(f"the trail can't be read to its end: {error}")
    if problems:
        fail(f"problems: {problems}")
    typer.echo("all is well")


@audit.command("public-key")
def show_public_key() -> None:
    """Print what `audit verify` needs. The secret is taken from TOKEN_BROKER_AUDIT_KEY, or the file of …_FILE."""
    from broker.offline import audit_trails

    try:
        typer.echo(audit_trails.AuditKeys(secret_setting("audit_key", os.environ)).public_key)
    except SettingsError as error:
        fail(*error.problems)
    except ValueError as error:
        fail(f"{AUDIT_KEY} {error}")


def _opened(files: Sequence[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Each file while it is its turn."""
    for path in files:
        with gzip.open(path) if path.suffix == GZIP_SUFFIX else path.open("rb") as file:
            yield str(path), cast("BinaryIO", file)


def _parsed(public_keys: Sequence[str]) -> list["audit_trails.PublicKey"]:
    from broker.offline import audit_trails

    try:
        return [audit_trails.PublicKey.parse(text) for text in public_keys]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--public-key") from None
