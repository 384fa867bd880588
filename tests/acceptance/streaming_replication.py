"""A Postgres primary with a real standby, which the newest commits may fail to reach before the primary dies."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.databases import folder_for_data
from tests.eventually import eventually

# The standby begins where the copy began, and the primary must still have what it wrote since.
PRIMARY_SETTINGS: Final = {"wal_keep_size": "256MB"}
NOT_COPIED: Final = shutil.ignore_patterns("postmaster.pid", "pg_wal", "pgsql_tmp*")

_SENDER: Final = "SELECT pid FROM pg_stat_replication"
_HAS_REPLAYED: Final = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication"


class Replicated:
    """A primary and its standby.

    Attributes:
        url: leads to whichever of the two takes writes.
    """

    def __init__(self, primary: EmbeddedPostgres, standby: EmbeddedPostgres, data: Path) -> None:
        self.url = _either(primary, standby)
        self._primary = primary
        self._standby = standby
        self._data = data

    async def caught_up(self) -> None:
        """Return when the standby has all that the primary has."""

        async def has_replayed() -> bool:
            return bool(_asked(self._primary, _HAS_REPLAYED))

        await eventually(has_replayed)

    def forget_from_now_on(self) -> None:
        """What is committed from here on does not reach the standby: who sends it stands still."""
        os.kill(_asked(self._primary, _SENDER), signal.SIGSTOP)

    async def fail_over(self) -> None:
        """The primary dies, as by a power failure, and the standby takes writes."""
        sender = _asked(self._primary, _SENDER)
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        os.kill(sender, signal.SIGKILL)
        assert _asked(self._standby, "SELECT pg_promote()")


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Runs both; an empty database each of them has."""
    with folder_for_data() as folder:
        data, copy = folder / "primary", folder / "standby"
        with EmbeddedPostgres(data_dir=data, settings=PRIMARY_SETTINGS) as primary:
            _copy(primary, data, copy)
            source = conninfo_to_dict(primary.dsn())
            follow = {
                "primary_conninfo": make_conninfo(
                    host=source["host"], port=source["port"], user=source["user"]
                )
            }
            with EmbeddedPostgres(data_dir=copy, settings=follow) as standby:
                yield Replicated(primary, standby, data)


def _copy(primary: EmbeddedPostgres, data: Path, copy: Path) -> None:
    """A base backup by Postgres' low-level functions: not every distribution has pg_basebackup."""
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_backup_start('standby', fast => true)")
        shutil.copytree(data, copy, ignore=NOT_COPIED, copy_function=_copy_if_there)
        row = connection.execute("SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)").fetchone()
    assert row is not None
    (copy / "pg_wal").mkdir()
    (copy / "backup_label").write_text(row[0])
    (copy / "standby.signal").touch()
    owner = data.stat()
    for path in (copy, *copy.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
        if path.is_dir():
            path.chmod(0o700)


def _copy_if_there(source: str, target: str) -> None:
    """Postgres is at work, and removes files meanwhile that no backup needs."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def _either(primary: EmbeddedPostgres, standby: EmbeddedPostgres) -> str:
    first, second = (conninfo_to_dict(server.dsn()) for server in (primary, standby))
    hosts, ports = (f"{first[name]},{second[name]}" for name in ("host", "port"))
    return make_conninfo(primary.dsn(), host=hosts, port=ports, target_session_attrs="read-write")


def _asked(server: EmbeddedPostgres, question: str) -> Any:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None
