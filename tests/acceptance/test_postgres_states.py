"""F34, F32: Postgres restarts, crashes, freezes, refuses writes, has no room or no connection to spare.

Two replicas, one install whose token is valid and one whose token has expired. The valid token is served all the while;
no refresh token is presented as long as no claim can be committed; and all is well again without anybody's help.
"""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import psycopg
import pytest
from psycopg.errors import DiskFull

from broker import offline
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import NEVER
from tests.acceptance.scene import MINTED, PAST_EXPIRY, REFRESHED, Scene, load, scene_in
from tests.databases import folder_for_data
from tests.eventually import eventually
from tests.integration.refusals import read_refusal

# A few connections are kept for superusers, as whom the brokers of these tests connect.
CONNECTIONS: Final = 40
SETTINGS: Final = {"SWEEP_SECONDS": NEVER, "CACHE_STALENESS_SECONDS": "1", "DATABASE_SECONDS": "1"}
ROOM: Final = "4m"
# Small enough to fill each page up, and nobody's.
_FILL: Final = """
INSERT INTO token_broker.installs (plugin_id, install_id, state) VALUES ('filler', %s, 'uninstalled')
"""


class OwnPostgres:
    """A server that this test alone uses, and may hurt."""

    def __init__(self, server: EmbeddedPostgres, data: Path) -> None:
        self.url = server.dsn(tcp=True)
        self._server = server
        self._data = data

    def execute(self, *statements: str) -> None:
        """As the superuser, over the socket, whatever the default of transactions is."""
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            for statement in statements:
                connection.execute(statement.encode())

    def restart(self) -> None:
        """As an administrator does."""
        self._server.stop()
        self._server.start()

    def crash(self) -> None:
        """One of its processes is killed: it ends every connection, recovers, and goes on."""
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All of its processes stand still."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        pids = [postmaster, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As a standby, or as a provider makes it when the disk is nearly full."""
        self.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self.execute("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")

    @contextmanager
    def no_connection_to_spare(self) -> Iterator[None]:
        """Somebody has taken every one, and whoever had one has lost it."""
        with ExitStack() as taken:
            taken.enter_context(psycopg.connect(self._server.dsn(), autocommit=True)).execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IS NOT NULL AND pid <> pg_backend_pid()"
            )
            with suppress(psycopg.OperationalError):
                while True:
                    taken.enter_context(psycopg.connect(self._server.dsn()))
            yield

    @contextmanager
    def no_room(self, disk: Path) -> Iterator[None]:
        """The table stands on a disk of its own, and that is full to the last byte of the table's own pages."""
        table = disk / "table"
        table.mkdir()
        owner = self._data.stat()
        os.chown(table, owner.st_uid, owner.st_gid)
        self.execute(
            f"CREATE TABLESPACE small LOCATION '{table}'",
            "ALTER TABLE token_broker.installs SET TABLESPACE small",
            "VACUUM FULL token_broker.installs",
        )
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection, suppress(DiskFull):
            for number in itertools.count():
                connection.execute(_FILL, [str(number)])
        try:
            yield
        finally:
            (disk / "filler").unlink()


@pytest.fixture
def own() -> Iterator[OwnPostgres]:
    """A server with the broker's schema."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with folder_for_data() as folder:
        data, settings = folder / "data", {"max_connections": str(CONNECTIONS)}
        with EmbeddedPostgres(data_dir=data, tcp_port=port, settings=settings) as server:
            offline.migrate(server.dsn())
            yield OwnPostgres(server, data)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small one. Only root can mount it."""
    with folder_for_data() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder],  # noqa: S607
            check=False, capture_output=True,
        )  # fmt: skip
        if mounted.returncode != 0:
            pytest.skip(f"only root can mount a small disk: {mounted.stderr.decode()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607


@asynccontextmanager
async def two_installs(own: OwnPostgres) -> AsyncIterator[tuple[Scene, str, str]]:
    """Two replicas that have a valid token in their memory, and another install whose token has expired."""
    async with scene_in(own.url, 2, **SETTINGS) as two:
        valid, expired = await two.installed(rotation="strict"), await two.installed(rotation="strict")
        assert await two.ask(valid) == 1
        await two.time_passes(PAST_EXPIRY, expired)
        yield two, valid, expired
        assert await two.calls(valid) == []
        await two.nothing_presented_wrongly(expired)


async def refused(two: Scene, install_id: str) -> None:
    """Each replica says within its time that the database is why, and that the caller should come again."""
    for replica in two.replicas:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await replica.get_token(install_id)
        refusal = read_refusal(error.value)
        assert refusal.reason in {"STORE_UNAVAILABLE", "OVERLOADED"}, refusal.message
        assert refusal.retry_after is not None


async def served(two: Scene, install_id: str) -> None:
    """Return when each replica hands out the second pair. They had no help."""

    async def is_served() -> bool:
        try:
            return await two.ask(install_id, callers=1) == 2
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False

    await eventually(is_served)


@pytest.mark.parametrize("strike", [OwnPostgres.restart, OwnPostgres.crash], ids=["restart", "crash"])
async def test_f34_postgres_that_restarts_is_used_again(
    own: OwnPostgres, strike: Callable[[OwnPostgres], None]
) -> None:
    """Callers of a valid token notice nothing; and the expired one is refreshed by one presentation."""
    async with two_installs(own) as (two, valid, expired):
        async with load(two.replicas, [valid]):
            await asyncio.to_thread(strike, own)
            await served(two, expired)
        assert await two.calls(expired) == [REFRESHED]


async def test_f34_read_only_postgres_has_nothing_presented(own: OwnPostgres) -> None:
    """A claim can't be committed, so nothing is sent."""
    async with two_installs(own) as (two, valid, expired):
        async with load(two.replicas, [valid]):
            with own.read_only():
                await refused(two, expired)
                assert await two.calls(expired) == []
            await served(two, expired)
        assert await two.calls(expired) == [REFRESHED]


async def test_f34_full_disk_has_nothing_presented(own: OwnPostgres, disk: Path) -> None:
    """The intent has no room, so nothing is sent."""
    async with two_installs(own) as (two, valid, expired):
        with own.no_room(disk):
            async with load(two.replicas, [valid]):
                await refused(two, expired)
                assert await two.calls(expired) == []
        async with load(two.replicas, [valid]):
            await served(two, expired)
        assert await two.calls(expired) == [REFRESHED]


async def test_f34_postgres_without_a_connection_to_spare_has_nothing_presented(own: OwnPostgres) -> None:
    """Somebody else has taken them all."""
    async with two_installs(own) as (two, valid, expired):
        async with load(two.replicas, [valid]):
            with own.no_connection_to_spare():
                await refused(two, expired)
                assert await two.calls(expired) == []
            await served(two, expired)
        assert await two.calls(expired) == [REFRESHED]


async def test_f32_frozen_postgres_has_nothing_presented(own: OwnPostgres) -> None:
    """No error comes, and no answer: each waits no longer than it may. What it asked for may be done later."""
    async with two_installs(own) as (two, valid, expired):
        async with load(two.replicas, [valid]):
            with own.frozen():
                await refused(two, expired)
                assert await two.calls(expired) == []
            await served(two, expired)
        # A claim may have been committed as Postgres woke up, with nobody there to know of it: then the next one mints.
        assert await two.calls(expired) in ([REFRESHED], [MINTED])
