"""Embedded Postgres when its parent ends: in each way a process can end, nothing stays behind."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from broker.sandbox.embedded_postgres import EmbeddedPostgres

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are watched through Linux' pidfd and /proc"
)

END_DEADLINE_SECONDS = 60
PARENT = """
import signal
import sys
import psycopg
from broker.sandbox.embedded_postgres import EmbeddedPostgres

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

with EmbeddedPostgres() as server:
    try:
        print(server.dsn(), flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        with psycopg.connect(server.dsn()) as connection:
            print(*connection.execute("SELECT 'drained'").fetchone(), flush=True)
"""
FORKING_PARENT = """
import os
from broker.sandbox.embedded_postgres import EmbeddedPostgres

server = EmbeddedPostgres()
server.start()
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
server.stop()
print("stopped")
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The parent's temporary folder, which every user can enter and write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # Postgres may run as another user
        yield Path(folder)


@contextmanager
def parent(temporary: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that starts Postgres, prints its DSN, and waits for the end of its input; in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), **variables},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def server_and_supervisor(dsn: str) -> tuple[int, int]:
    """The process ids of a server, as its socket's lock file has it, and of the supervisor above it."""
    host = Path(str(psycopg.conninfo.conninfo_to_dict(dsn)["host"]))
    server = int(next(host.glob(".s.PGSQL.*.lock")).read_text().split()[0])
    after_the_name = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2]
    return server, int(after_the_name.split()[1])


@contextmanager
def ends(pids: Sequence[int]) -> Iterator[None]:
    """The processes live on entry, and have ended soon after the body."""
    with ExitStack() as opened:
        descriptors = {os.pidfd_open(pid): pid for pid in pids}
        for descriptor in descriptors:
            opened.callback(os.close, descriptor)
        yield
        for descriptor, pid in descriptors.items():
            assert select.select([descriptor], [], [], END_DEADLINE_SECONDS)[0], f"process {pid} lives on"


def line(process: subprocess.Popen[str]) -> str:
    """The next line that the process prints."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], END_DEADLINE_SECONDS)[0], "not a word in time"
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signal_that_kills_the_parent_leaves_nothing(temporary: Path, number: signal.Signals) -> None:
    """No handler runs in a process that dies of a signal, so nothing may depend on one."""
    with parent(temporary) as process, ends(server_and_supervisor(line(process))):
        process.send_signal(number)
    assert process.returncode == -number
    assert list(temporary.iterdir()) == []


def test_ctrl_c_reaches_the_parent_first(temporary: Path) -> None:
    """The terminal signals the whole group; Postgres must still be there while the broker drains."""
    with parent(temporary) as process, ends(server_and_supervisor(line(process))):
        os.killpg(process.pid, signal.SIGINT)
        assert line(process) == "drained"
        process.wait(END_DEADLINE_SECONDS)
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []


def test_normal_end_leaves_nothing(temporary: Path) -> None:
    """By the time that the parent has ended, not a moment later."""
    with parent(temporary) as process, ends(server_and_supervisor(line(process))):
        process.communicate()
        assert list(temporary.iterdir()) == []
    assert process.returncode == 0


def test_parent_killed_while_initdb_runs_leaves_nothing(temporary: Path) -> None:
    """The first start takes a second, long enough to be killed in."""
    with tempfile.TemporaryDirectory() as programs:
        Path(programs).chmod(0o755)
        started = Path(programs) / "started"
        os.mkfifo(started)
        started.chmod(0o666)
        for program, rest in (("postgres", ""), ("initdb", f"echo $$ > {started}; exec sleep 600")):
            version = f"echo '{program} (PostgreSQL) 16.0'"
            text = f'#!/bin/sh\nif [ "$1" = --version ]; then {version}; exit; fi\n{rest}\n'
            (Path(programs) / program).write_text(text)
            (Path(programs) / program).chmod(0o755)
        with parent(temporary, TOKEN_BROKER_POSTGRES_BIN=programs) as process:
            initdb = int(started.read_text())
            after_the_name = Path(f"/proc/{initdb}/stat").read_text().rpartition(")")[2]
            with ends([initdb, int(after_the_name.split()[1])]):
                process.kill()
    assert list(temporary.iterdir()) == []


def test_server_ends_with_its_supervisor() -> None:
    """`killall -9 python` takes parent and supervisor at once; Postgres must notice by itself."""
    with EmbeddedPostgres() as server:
        dsn = server.dsn()
        postmaster, supervisor = server_and_supervisor(dsn)
        with ends([postmaster]):
            os.kill(supervisor, signal.SIGKILL)
    assert not Path(str(psycopg.conninfo.conninfo_to_dict(dsn)["host"])).exists()


def test_signals_to_the_supervisor_change_nothing(postgres: EmbeddedPostgres) -> None:
    """A service manager signals every process of the group; the broker drains first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(server_and_supervisor(postgres.dsn())[1], number)
    with psycopg.connect(postgres.dsn()) as connection:
        connection.execute("SELECT 1")


def test_process_forked_meanwhile_does_not_hold_up_the_stop() -> None:
    """A fork keeps the parent's end of the pipe open, so its closing alone must not be the signal."""
    forking = subprocess.run(
        [sys.executable, "-c", FORKING_PARENT],
        capture_output=True,
        text=True,
        check=True,
        timeout=END_DEADLINE_SECONDS,
    )
    assert forking.stdout == "stopped\n"


def test_server_knows_none_of_the_parents_environment(postgres: EmbeddedPostgres) -> None:
    """It holds client secrets; and run by root, Postgres belongs to an account that others may use."""
    environment = Path(f"/proc/{server_and_supervisor(postgres.dsn())[0]}/environ").read_bytes()
    names = {entry.partition(b"=")[0].decode() for entry in environment.split(b"\0") if entry}
    assert {name for name in names if not name.startswith("PG")} <= {"PATH", "LD_LIBRARY_PATH", "LC_ALL"}
