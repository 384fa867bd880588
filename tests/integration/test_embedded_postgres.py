"""Embedded Postgres: it starts anywhere, keeps what it should, and says plainly why it cannot."""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.embedded_postgres.programs import EmbeddedPostgresError, PostgresPrograms, wheel_programs

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must run Postgres as somebody else")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that does not exist yet, in one that every user can enter (pytest's own are closed to `nobody`)."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        yield Path(parent) / "data"


def ask(dsn: str, question: str) -> object:
    """The first column of the first row of the answer."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def socket_folder(dsn: str) -> Path:
    """The folder of the server's Unix socket, which is its temporary folder."""
    return Path(str(psycopg.conninfo.conninfo_to_dict(dsn)["host"]))


def test_server_answers_and_leaves_nothing() -> None:
    """The main use: a database for a while, then no process and no file."""
    with EmbeddedPostgres() as server:
        dsn = server.dsn()
        assert ask(dsn, "SELECT current_database() || ' ' || current_user") == "token_broker token_broker"
        assert socket_folder(dsn).stat().st_mode & 0o077 == 0
    assert not socket_folder(dsn).exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


def test_databases_of_tests_are_fresh_and_writable(empty_database: str) -> None:
    """Each test has a database to itself."""
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE installs (install_id text)")
    assert ask(empty_database, "SELECT count(*) FROM installs") == 0


def test_wheel_programs_work() -> None:
    """A machine without Postgres uses these, and the machine of the tests may have its own."""
    with EmbeddedPostgres(programs=wheel_programs()) as server:
        assert ask(server.dsn(), "SHOW server_version") == server.programs.version


@as_root
def test_wheel_programs_closed_to_others_are_copied() -> None:
    """Root's environment often lies under /root, where the account that runs Postgres may not go."""
    wheel = wheel_programs()
    package = wheel.bin_folder.parent.parent
    with tempfile.TemporaryDirectory() as closed:
        for folder in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(folder, Path(closed) / folder.name, ignore=shutil.ignore_patterns("include"))
        for entry in Path(closed).rglob("*"):
            entry.chmod(entry.stat().st_mode & 0o700)  # as installed under umask 077
        bin_folder = Path(closed) / wheel.bin_folder.relative_to(package.parent)
        hidden = PostgresPrograms(bin_folder, "wheel", wheel.version)
        with EmbeddedPostgres(programs=hidden) as server:
            assert ask(server.dsn(), "SHOW server_version") == wheel.version


@as_root
def test_other_programs_closed_to_others_are_refused(postgres: EmbeddedPostgres) -> None:
    """An unknown tree of programs is not copied about: it may be large, and lean on its place."""
    with tempfile.TemporaryDirectory() as closed:
        link = Path(closed) / "bin"
        link.symlink_to(postgres.programs.bin_folder)
        hidden = PostgresPrograms(link, "environment", postgres.programs.version)
        with pytest.raises(EmbeddedPostgresError, match=f"may not run {link}"):
            EmbeddedPostgres(programs=hidden).start()


def test_server_outlives_the_thread_that_started_it() -> None:
    """asyncio.to_thread's threads come and go; a parent-death signal would count one of them as the parent."""
    server = EmbeddedPostgres()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert ask(server.dsn(), "SELECT 1") == 1
    finally:
        server.stop()


def test_stop_is_idempotent_and_start_works_again() -> None:
    """Clean-up code runs twice on bad days."""
    server = EmbeddedPostgres()
    server.stop()
    for _ in range(2):
        server.start()
        assert ask(server.dsn(), "SELECT 1") == 1
        server.stop()
        server.stop()
    with pytest.raises(EmbeddedPostgresError, match="not been started"):
        server.dsn()


def test_kept_data_are_there_on_the_next_start(data_dir: Path) -> None:
    """`--data-dir` means: the installs of yesterday."""
    with EmbeddedPostgres(data_dir=data_dir) as server, psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'yesterday' AS day")
    with EmbeddedPostgres(data_dir=data_dir) as server:
        assert ask(server.dsn(), "SELECT day FROM kept") == "yesterday"
        assert ask(server.dsn(), "SHOW fsync") == "on"


def test_second_run_on_the_same_data_is_refused(data_dir: Path) -> None:
    """Two servers on one folder would destroy it."""
    with EmbeddedPostgres(data_dir=data_dir) as server:
        with pytest.raises(EmbeddedPostgresError, match=f"Another run is using the data folder {data_dir}"):
            EmbeddedPostgres(data_dir=data_dir).start()
        assert ask(server.dsn(), "SELECT 1") == 1


def test_data_of_another_release_are_refused(data_dir: Path) -> None:
    """A new Postgres cannot open old data; the way back is told."""
    data_dir.mkdir()
    (data_dir / "PG_VERSION").write_text("11\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 11.*TOKEN_BROKER_POSTGRES_BIN"):
        EmbeddedPostgres(data_dir=data_dir).start()
    assert (data_dir / "PG_VERSION").read_text() == "11\n"


def test_folder_with_other_files_is_refused_and_untouched(data_dir: Path) -> None:
    """A slip of the hand (`--data-dir ~`) must not cost a file."""
    data_dir.mkdir()
    (data_dir / "letter.txt").write_text("dear")
    owner = data_dir.stat().st_uid
    with pytest.raises(EmbeddedPostgresError, match=r"holds files that are not Postgres'"):
        EmbeddedPostgres(data_dir=data_dir).start()
    assert data_dir.stat().st_uid == owner


def test_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The system's own word for it, and where."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EmbeddedPostgresError, match=f"Not a directory: '{tmp_path}/file/data'"):
        EmbeddedPostgres(data_dir=tmp_path / "file" / "data").start()


@as_root
def test_data_folder_that_the_account_cannot_enter_is_named(tmp_path: Path) -> None:
    """Root sees no closed door; the account that runs Postgres does."""
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=f"may not enter {tmp_path}/closed/data"):
        EmbeddedPostgres(data_dir=tmp_path / "closed" / "data").start()


def test_failed_start_ends_with_the_last_words_of_the_server() -> None:
    """Without them, every cause looks alike."""
    with pytest.raises(EmbeddedPostgresError, match=r"did not start: it ended\.[\s\S]*FATAL.*shared_buffers"):
        EmbeddedPostgres(settings={"shared_buffers": "plenty"}).start()


def test_tcp_asks_for_the_password_and_the_socket_does_not() -> None:
    """Every user of the machine can reach a TCP port."""
    port = free_port()
    with EmbeddedPostgres(tcp_port=port) as server:
        assert ask(server.dsn(tcp=True), "SELECT inet_server_port()") == port
        without = psycopg.conninfo.make_conninfo(server.dsn(tcp=True), password="guess")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(without)


def test_tcp_is_off_unless_asked_for(postgres: EmbeddedPostgres) -> None:
    """What is not needed does not listen."""
    assert ask(postgres.dsn(), "SHOW listen_addresses") == ""
    with pytest.raises(EmbeddedPostgresError, match="no TCP port"):
        postgres.dsn(tcp=True)


def test_taken_tcp_port_is_named() -> None:
    """The most usual trouble of all."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedPostgresError, match=r"Address already in use[\s\S]*FATAL"):
            EmbeddedPostgres(tcp_port=port).start()


def test_deep_temporary_folder_still_leaves_room_for_the_socket(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Unix socket's path holds about a hundred bytes, and CI's temporary folders can be longer."""
    deep = data_dir.with_name("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with EmbeddedPostgres() as server:
        assert ask(server.dsn(), "SELECT 1") == 1
    assert list(deep.iterdir()) == []


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
