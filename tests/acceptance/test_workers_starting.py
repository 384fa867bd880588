"""How several workers start: settings that can't be are told once, and their doors are theirs alone."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.worker_processes import (
    AbsentDatabase,
    Seen,
    Workers,
    channels,
    environment_for,
    serving,
)
from tests.integration.served_broker import INSTALL_ID
from tests.integration.served_envoy import ServedEnvoy
from tests.processes import TOKEN_BROKER, Running, running, token_broker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux deals out a port's connections")

ONE_WORKER: Final[tuple[str, ...]] = ()
TWO_WORKERS: Final = ("--workers", "2")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"KEYSET": "none", "CALL_SECONDS": "soon"}, "TOKEN_BROKER_KEYSET"),
        (
            {"TLS_CERTIFICATE_FILE": "/nowhere", "TLS_KEY_FILE": "/nowhere"},
            "TOKEN_BROKER_TLS_CERTIFICATE_FILE",
        ),
    ],
    ids=["read", "used"],
)
async def test_bad_settings_are_told_once_and_no_port_opens(
    envoy: ServedEnvoy, database: str, settings: dict[str, str], problem: str
) -> None:
    """By the first worker, in a single broker's words and with its exit status; found when read, or when used."""
    ended = await token_broker("serve", "--workers", "3", env=environment_for(envoy, database, **settings))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count(problem) == 1
    assert "broker.started" not in ended.err
    assert "Traceback" not in ended.err


async def test_number_of_workers_that_is_none_is_told_with_all_else(
    envoy: ServedEnvoy, database: str
) -> None:
    """An operator mends all in one go."""
    environ = environment_for(envoy, database, WORKERS="many", CALL_SECONDS="soon")
    ended = await token_broker("serve", env=environ)
    assert ended.code == 1
    assert "TOKEN_BROKER_WORKERS" in ended.err
    assert "TOKEN_BROKER_CALL_SECONDS" in ended.err


@asynccontextmanager
async def serving_alone(
    envoy: ServedEnvoy, database: str, *arguments: str, **settings: str
) -> AsyncIterator[tuple[Running, str]]:
    """A broker that is no worker; and the line that says where it serves."""
    environ = environment_for(envoy, database, **settings)
    async with running(TOKEN_BROKER, "serve", *arguments, env=environ) as process:
        yield process, await process.err.line('"broker.started"')


async def test_one_worker_is_the_process_itself_and_the_option_wins(
    envoy: ServedEnvoy, database: str
) -> None:
    """Who asks for one process gets one, with nothing above it."""
    async with serving_alone(envoy, database, "--workers", "1", WORKERS="2") as (process, started):
        assert '"worker"' not in started
        assert Workers(process, "", "").pids() == {}


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("arguments", [ONE_WORKER, TWO_WORKERS], ids=["alone", "workers"])
@pytest.mark.parametrize("door", ["GRPC_ADDRESS", "HTTP_ADDRESS"])
async def test_nobody_else_serves_at_the_doors_of_workers(
    envoy: ServedEnvoy, database: str, door: str, arguments: Sequence[str]
) -> None:
    """A second broker would take half of the connections, silently; the kernel would let it, as the user is the same."""
    address = f"127.0.0.1:{free_port()}"
    async with serving(envoy, database, **{door: address}):
        second = await token_broker(
            "serve", *arguments, env=environment_for(envoy, database, **{door: address})
        )
    assert (second.code, second.out) == (1, "")
    assert second.err.count(f"TOKEN_BROKER_{door}: can't listen at {address}") == 1
    assert "Traceback" not in second.err


async def test_nobody_else_takes_the_doors_while_no_worker_is_alive(
    envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """Or workers and a stranger would share them from then on."""
    absent = AbsentDatabase(database, tmp_path)
    address = f"127.0.0.1:{free_port()}"
    async with serving(envoy, database, GRPC_ADDRESS=address) as workers:
        os.kill(workers.process.pid, signal.SIGSTOP)  # so that nobody is put in their place
        for pid in workers.pids().values():
            os.kill(pid, signal.SIGKILL)
        environ = environment_for(envoy, absent.url, GRPC_ADDRESS=address)
        for arguments in (ONE_WORKER, TWO_WORKERS):
            second = await token_broker("serve", *arguments, env=environ)
            assert (second.code, "GRPC_ADDRESS" in second.err) == (1, True)


async def test_workers_do_not_join_a_broker_that_serves_alone(envoy: ServedEnvoy, database: str) -> None:
    """The other way round; and nothing of them stays."""
    address = f"127.0.0.1:{free_port()}"
    async with serving_alone(envoy, database, GRPC_ADDRESS=address):
        environ = environment_for(envoy, database, GRPC_ADDRESS=address)
        second = await token_broker("serve", *TWO_WORKERS, env=environ)
    assert second.code == 1
    assert second.err.count(f"TOKEN_BROKER_GRPC_ADDRESS: can't listen at {address}") == 1


async def test_doors_can_be_taken_again_at_once(envoy: ServedEnvoy, database: str) -> None:
    """Connections that the last broker closed stand for a minute more, and are nobody."""
    doors = {"GRPC_ADDRESS": f"127.0.0.1:{free_port()}", "HTTP_ADDRESS": f"127.0.0.1:{free_port()}"}
    async with serving_alone(envoy, database, **doors) as (alone, _):
        await alone.err.line('"broker.ready"')
        before = Seen()
        await before.probe_grpc(Workers(alone, doors["GRPC_ADDRESS"], ""))
        async with channels(doors["GRPC_ADDRESS"]) as opened:
            await before.call(opened[0], INSTALL_ID)
            alone.signal(signal.SIGTERM)
            assert (await alone.end()).code == 0
    async with serving(envoy, database, **doors) as workers:
        seen = Seen()
        await seen.probe_grpc(workers)
        assert (seen.not_ready, seen.broken) == ([], [])
