"""Where Postgres keeps its files: a private folder that goes with it, and, if wanted, data that stays."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from broker.sandbox.embedded_postgres.account import UNPRIVILEGED, Account
from broker.sandbox.embedded_postgres.programs import BIN_VARIABLE, EmbeddedPostgresError, PostgresPrograms

# sockaddr_un.sun_path holds 104 bytes on macOS and the BSDs, 108 on Linux, the closing zero included.
SOCKET_PATH_BYTES: Final = 103
_LONGEST_SOCKET_NAME: Final = ".s.PGSQL.65535"
_FOLDER_PREFIX: Final = "token-broker-pg-"
_FALLBACK: Final = "/tmp"  # noqa: S108  # nosec B108  # mkdtemp makes a private folder in it


def temporary_folder(account: Account | None) -> Path:
    """A new folder, open to the account alone, with room in its path for a Unix socket's name.

    It stands in the usual temporary folder, or in /tmp if that one is too deep or closed to the account.

    Raises:
        EmbeddedPostgresError: neither will do.
        OSError: neither can be written.
    """
    for parent in dict.fromkeys((tempfile.gettempdir(), _FALLBACK)):
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent)).resolve()
        if account is not None:
            account.take(folder)
        if _can_hold_socket(folder) and (account is None or account.can_enter(folder)):
            return folder
        folder.rmdir()
    raise EmbeddedPostgresError(
        f"No temporary folder suits Postgres: {tempfile.gettempdir()} and {_FALLBACK} are too deep for a Unix "
        f"socket, or closed to user {UNPRIVILEGED!r}. Set TMPDIR to a short path that is open to all."
    )


def _can_hold_socket(folder: Path) -> bool:
    path = os.fsencode(folder / _LONGEST_SOCKET_NAME)
    return len(path) <= SOCKET_PATH_BYTES and not set(path) & set(
        b',"'
    )  # libpq and Postgres read lists of paths


def claim_data_folder(folder: Path, programs: PostgresPrograms, account: Account | None) -> int:
    """Make or check the folder of kept data, and lock it: the lock holds while the descriptor is open anywhere.

    Raises:
        EmbeddedPostgresError: another run uses it, it belongs to another release of Postgres, it holds
            something else, or the account cannot reach it.
        OSError: it cannot be made or read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _check_content(folder, programs)
        if account is not None:
            _hand_over(folder, account)
    except BlockingIOError as locked:
        os.close(lock)
        raise EmbeddedPostgresError(
            f"Another run is using the data folder {folder}; stop it first."
        ) from locked
    except BaseException:
        os.close(lock)
        raise
    return lock


def is_initialized(folder: Path) -> bool:
    """Whether `initdb` has been here."""
    return (folder / "PG_VERSION").exists()


def remove(folder: Path) -> None:
    """Remove a temporary folder that may be gone already."""
    shutil.rmtree(folder, ignore_errors=True)


def _check_content(folder: Path, programs: PostgresPrograms) -> None:
    if is_initialized(folder):
        major = (folder / "PG_VERSION").read_text().strip()
        if major != str(programs.major):
            raise EmbeddedPostgresError(
                f"The data folder {folder} was made by Postgres {major}, and the programs in {programs.bin_folder} "
                f"are {programs.version}: set {BIN_VARIABLE} to the bin folder of a Postgres {major}, "
                "or choose another data folder."
            )
    elif any(folder.iterdir()):
        raise EmbeddedPostgresError(
            f"The data folder {folder} holds files that are not Postgres'; choose an empty or a new one."
        )


def _hand_over(folder: Path, account: Account) -> None:
    if not is_initialized(folder):
        account.take(folder)
    if not account.can_enter(folder):
        raise EmbeddedPostgresError(
            f"Postgres refuses to run as root, and the user it runs as instead ({UNPRIVILEGED!r}, or the data's owner) "
            f"may not enter {folder}: choose a data folder outside root's home, or run as an ordinary user."
        )
