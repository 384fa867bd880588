"""Where the commands of `keys` find the keyset and the database."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from broker.cli.failure import fail
from broker.config import SettingsError, secret_setting, variable_of
from broker.domain.errors import RetryableError
from broker.domain.secret import Secret

if TYPE_CHECKING:
    from broker.offline import resealing

KEYSET: Final = variable_of("keyset")
DATABASE_URL: Final = variable_of("database_url")

Result = TypeVar("Result")
KmsUri = Annotated[
    str,
    typer.Option(
        envvar="TOKEN_BROKER_KEYSET_KMS_URI",
        help="The KMS key that wraps the keyset: aws-kms://…, gcp-kms://…, hcvault://….",
    ),
]
KeysetFile = Annotated[
    Path | None,
    typer.Argument(metavar="[KEYSET_FILE]", help="Left out: as `serve` finds it, by TOKEN_BROKER_KEYSET."),
]


def keyset_of(keyset_file: Path | None, kms_uri: str) -> Secret:
    """In plain, from the file or as `serve` finds it."""
    if keyset_file is not None:
        return opened_file(keyset_file, kms_uri)
    try:
        return _opened(secret_setting("keyset", os.environ), kms_uri, KEYSET)
    except SettingsError as error:
        fail(*error.problems)


def opened_file(path: Path, kms_uri: str) -> Secret:
    """The keyset in that file, in plain; ends the command if there is none."""
    from broker.offline import keysets

    try:
        keyset = keysets.read_keyset_file(path)
    except ValueError as error:
        fail(f"{path} {error}")
    return _opened(keyset, kms_uri, str(path))


def _opened(keyset: Secret, kms_uri: str, named: str) -> Secret:
    from broker.offline import keysets

    try:
        opened = keysets.opened_keyset(keyset, kms_uri)
        keysets.TinkCipher(opened)
    except ValueError as error:
        fail(f"{named} {error}")
    return opened


def closed(keyset: Secret, kms_uri: str) -> Secret:
    """As it is stored. Raises ValueError."""
    from broker.offline import keysets

    return keysets.wrapped(keyset, keysets.kek_of(kms_uri)) if kms_uri else keyset


def in_database(keyset: Secret, work: "Callable[[resealing.SealedRows], Awaitable[Result]]") -> Result:
    """What `work` makes of the database that `serve` would use; ends the command if it can't be used."""
    import asyncio

    from broker.offline import keysets, resealing
    from broker.telemetry.logs import configure_logging

    configure_logging("console", "warning")

    async def worked(database_url: Secret) -> Result:
        async with resealing.sealed_rows(database_url, keysets.TinkCipher(keyset)) as rows:
            return await work(rows)

    try:
        return asyncio.run(worked(secret_setting("database_url", os.environ)))
    except SettingsError as error:
        fail(*error.problems)
    except ValueError as error:
        fail(f"{DATABASE_URL} {error}")
    except RetryableError as error:
        fail(f"{error}; what is done stays done")
