"""A Postgres server of one's own, for the sandbox and the tests: started, used, and gone without a trace."""

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg
from psycopg import pq, sql

from broker.sandbox.embedded_postgres.account import runnable_programs, server_account
from broker.sandbox.embedded_postgres.folders import (
    claim_data_folder,
    is_initialized,
    remove,
    temporary_folder,
)
from broker.sandbox.embedded_postgres.programs import EmbeddedPostgresError, PostgresPrograms, find_programs
from broker.sandbox.embedded_postgres.supervision import Supervision

SUPERUSER: Final = "token_broker"
DATABASE: Final = "token_broker"
LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5432  # without TCP it only ends the socket's name
START_DEADLINE_SECONDS: Final = 120  # kept data may need recovery after a crash
RETRY_SECONDS: Final = 0.02
CONNECT_TIMEOUT_SECONDS: Final = 10
PASSWORD_BYTES: Final = 24
LOG_TAIL_LINES: Final = 20

_MAINTENANCE_DATABASE: Final = "postgres"
_LOG_NAME: Final = "postgres.log"
_INHERITED_VARIABLES: Final = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
)  # others may be secrets, or PG*
_INITDB_OPTIONS: Final = (
    f"--username={SUPERUSER}",
    "--auth-local=trust",  # the socket's folder is closed to all others
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    "--no-locale",  # always there, and sorts alike everywhere
    "--no-instructions",
)
_SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "200",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",  # the server's own troubles, not its clients'
    "log_min_error_statement": "panic",  # a statement may hold what a log must not
    "log_checkpoints": "off",
}
# For data that nobody will miss: a crash of the machine may spoil it, one of Postgres alone does not.
_FAST_SETTINGS: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A Postgres server that lives no longer than this process, however this process ends.

    It listens on a Unix socket in a folder that only this user can enter, without a password; and, if asked,
    on a TCP port of 127.0.0.1 with a random one. A context manager; `start` and `stop` block.

    Args:
        data_dir: where the data stay for the next run; without it they go with the server.
        durable: obey the disk (fsync) with passing data, too; kept data always do.
        tcp_port: the port to listen on beside the socket.
        settings: server settings, over the defaults.
        programs: Postgres' programs; by default what `find_programs` finds.

    Raises:
        PostgresNotFoundError: there are no usable programs.
    """

    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        durable: bool = False,
        tcp_port: int | None = None,
        settings: Mapping[str, str] | None = None,
        programs: PostgresPrograms | None = None,
    ) -> None:
        self.programs = programs or find_programs(os.environ)
        self._data_dir = data_dir.expanduser().absolute() if data_dir else None
        self._fast = data_dir is None and not durable
        self._tcp_port = tcp_port
        self._port = DEFAULT_PORT if tcp_port is None else tcp_port
        self._settings = dict(settings or {})
        self._password = secrets.token_urlsafe(PASSWORD_BYTES)
        self._folder: Path | None = None
        self._supervision: Supervision | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the data if there are none, start the server, and return when it answers.

        Raises:
            EmbeddedPostgresError: it does not start; the text ends with the server's last words.
        """
        if self._folder is not None:
            raise EmbeddedPostgresError("This server has been started already.")
        with ExitStack() as undo:
            undo.callback(self.stop)
            try:
                self._wait_until_ready(self._launch())
                self._prepare()
            except (OSError, psycopg.Error) as failure:
                raise self._failure(str(failure)) from failure
            undo.pop_all()

    def stop(self) -> None:
        """End the server ("fast": open transactions roll back), remove what must not stay. Safe to repeat.

        Raises:
            EmbeddedPostgresError: it did not end in time.
        """
        supervision, self._supervision = self._supervision, None
        folder, self._folder = self._folder, None
        try:
            if supervision is not None:
                supervision.dismiss()
        finally:
            if folder is not None:
                remove(folder)

    def dsn(self, dbname: str = DATABASE, *, tcp: bool = False) -> str:
        """A URI that connects the superuser: over the Unix socket, or over TCP, with the password in it.

        Raises:
            EmbeddedPostgresError: the server has not been started, or not with a TCP port.
        """
        database = quote(dbname, safe="")
        if tcp:
            if self._tcp_port is None:
                raise EmbeddedPostgresError("This server has no TCP port.")
            address = f"{SUPERUSER}:{self._password}@{LOOPBACK}:{self._tcp_port}"
            return f"postgresql://{address}/{database}?sslmode=disable"
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._started()))}&port={self._port}"

    def _started(self) -> Path:
        if self._folder is None:
            raise EmbeddedPostgresError("This server has not been started.")
        return self._folder

    def _launch(self) -> Supervision:
        """Start the supervisor, then tell it what to run: from its start on, nothing can be left behind."""
        account = server_account(self._data_dir)
        with ExitStack() as handed_on:
            locks: list[int] = []
            if self._data_dir is not None:
                locks.append(claim_data_folder(self._data_dir, self.programs, account))
                handed_on.callback(os.close, locks[0])
            folder = self._folder = temporary_folder(account)
            supervision = self._supervision = Supervision(folder, folder / _LOG_NAME, inherit=locks)
        bin_folder = self.programs.bin_folder
        if account is not None:
            bin_folder = runnable_programs(self.programs, account, folder / "programs")
        supervision.run(self._commands(bin_folder, folder), environment=_environment(), account=account)
        return supervision

    def _commands(self, bin_folder: Path, folder: Path) -> list[list[str]]:
        data = self._data_dir or folder / "data"
        initdb = [str(bin_folder / "initdb"), *_INITDB_OPTIONS, "-D", str(data)]
        if self._fast:
            initdb.append("--no-sync")
        settings = {
            **_SETTINGS,
            **(_FAST_SETTINGS if self._fast else {}),
            **self._settings,
            "unix_socket_directories": f'"{folder}"',  # a list; the quotes keep a space in the path
            "listen_addresses": "" if self._tcp_port is None else LOOPBACK,
            "port": str(self._port),
        }
        postgres = [str(bin_folder / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            postgres += ["-c", f"{name}={value}"]
        return [postgres] if is_initialized(data) else [initdb, postgres]

    def _wait_until_ready(self, supervision: Supervision) -> None:
        conninfo = self.dsn(_MAINTENANCE_DATABASE).encode()
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while pq.PGconn.ping(conninfo) != pq.Ping.OK:
            if supervision.ends_within(RETRY_SECONDS):
                raise self._failure("it ended")
            if time.monotonic() > deadline:
                raise self._failure(f"no answer in {START_DEADLINE_SECONDS} s")

    def _prepare(self) -> None:
        """Create the database, and let the superuser in by TCP; the server never sees the password in plain."""
        with psycopg.connect(
            self.dsn(_MAINTENANCE_DATABASE), autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS
        ) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            if self._tcp_port is not None:
                verifier = connection.pgconn.encrypt_password(
                    self._password.encode(), SUPERUSER.encode(), b"scram-sha-256"
                )
                connection.execute(
                    sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(SUPERUSER), verifier.decode())
                )

    def _failure(self, reason: str) -> EmbeddedPostgresError:
        log = self._folder / _LOG_NAME if self._folder else None
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log and log.exists() else []
        where = f"{self.programs.bin_folder} ({self.programs.version}, {self.programs.source})"
        return EmbeddedPostgresError("\n  ".join([f"Postgres of {where} did not start: {reason}.", *lines]))


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    return {**inherited, "LC_ALL": "C"}
