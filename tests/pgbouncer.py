"""A PgBouncer in transaction mode before a Postgres of the tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from broker.sandbox.embedded_postgres import EmbeddedPostgres

# Debian puts it where only root looks.
PLACES: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
# Nothing of a session survives a transaction: fewer server connections than clients see to that.
SETTINGS: Final = {
    "pool_mode": "transaction",
    "default_pool_size": "5",
    "max_client_conn": "1000",
    "auth_type": "any",
    "unix_socket_mode": "0700",
    "listen_port": "6432",
    "ignore_startup_parameters": "extra_float_digits",
    "server_login_retry": "1",
}
START_SECONDS: Final = 10.0


class PgBouncer:
    """A running one. It listens on a Unix socket beside that of Postgres, which only the same user can enter."""

    def __init__(self, postgres: EmbeddedPostgres, folder: Path) -> None:
        self._postgres = postgres
        self._folder = folder

    def dsn(self, dbname: str) -> str:
        """Connects the superuser by way of the pooler."""
        return make_conninfo(
            self._postgres.dsn(dbname), host=str(self._folder), port=int(SETTINGS["listen_port"])
        )


@contextmanager
def pgbouncer(postgres: EmbeddedPostgres) -> Iterator[PgBouncer]:
    """Runs one before `postgres`. Skips the test, or the whole run, if there is no such program; in CI there must be."""
    program = shutil.which("pgbouncer", path=PLACES)
    if program is None:
        assert not os.environ.get("CI"), "CI installs pgbouncer"
        pytest.skip("there is no pgbouncer (Debian's package of that name has it)")
    server = conninfo_to_dict(postgres.dsn())
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    owner = Path(str(server["host"])).stat()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(_ini(server, SETTINGS | {"unix_socket_dir": str(folder)}), encoding="utf-8")
    command = [program, str(configuration)]
    if os.geteuid() == 0:
        # Like Postgres it refuses to run as root.
        for path in (folder, configuration):
            os.chown(path, owner.st_uid, owner.st_gid)
        command += ["-u", pwd.getpwuid(owner.st_uid).pw_name]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)  # found above
    try:
        running = PgBouncer(postgres, folder)
        _wait_until_it_answers(running, process, folder / "log")
        yield running
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _ini(server: Mapping[str, object], settings: Mapping[str, str]) -> str:
    lines = [
        "[databases]",
        f"* = host={server['host']} port={server['port']} user={server['user']}",
        "[pgbouncer]",
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _wait_until_it_answers(running: PgBouncer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Psycopg itself tries until the time is over only where a server is starting; here there is no socket yet."""
    while True:
        try:
            psycopg.connect(running.dsn("postgres"), connect_timeout=int(START_SECONDS)).close()
        except psycopg.OperationalError:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"pgbouncer ended: {log.read_text()}")
        else:
            return
