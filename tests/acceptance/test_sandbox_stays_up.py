"""`token-broker sandbox run`, which `make run` starts: what a newcomer tries while it is up, and how it ends."""

import asyncio
import json
import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.sandboxes import ANY_PORTS, Postgres, Sandbox, left_in, sandbox
from tests.processes import TOKEN_BROKER, run, running, token_broker
from tests.toolchains import requires_program

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are watched through Linux' pidfd and /proc"
)


async def test_newcomer_calls_it_as_it_says(temporary: Path) -> None:
    """The commands that it prints, and those of the README, one after the other."""
    async with sandbox(temporary) as up:
        for step in ("postgres", "migrate", "envoy", "broker", "webhook", "get_token", "again"):
            assert (await up.process.out.line(f"  {step}  ")).endswith(" ms]\n")
        printed = await up.process.out.line("token get")
        command = printed.split()
        assert Path(command[0]) == TOKEN_BROKER
        token, listed = await asyncio.gather(
            run(*command), token_broker("installs", "list", "--address", up.grpc)
        )
        assert (token.code, token.err) == (0, "")
        assert token.out.startswith("simulated-at-")
        assert "1000000" in listed.out
        one_more = await run(*(await up.process.out.line("sandbox install")).split())
        assert (one_more.code, one_more.err) == (0, "")
        again = await token_broker("token", "get", "1000001", "--address", up.grpc)
        assert again.out.startswith("simulated-at-")
        assert again.out != token.out
        await buf_curl_answers(up)


async def buf_curl_answers(up: Sandbox) -> None:
    """Another language's client, with no stubs of ours: reflection tells it all."""
    curl = await run(
        requires_program("buf"),
        "curl",
        "--protocol=grpc",
        "--http2-prior-knowledge",
        "--data",
        '{"install_id": "1000000"}',
        f"http://{up.grpc}/tokenbroker.v1.TokenBroker/GetToken",
    )
    assert curl.code == 0, curl.err
    assert json.loads(curl.out)["installId"] == "1000000"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_asked_to_stop_it_ends_with_0_and_leaves_nothing(
    temporary: Path, number: signal.Signals
) -> None:
    """No server, no supervisor, no folder, by the time that it has ended."""
    async with sandbox(temporary) as up:
        with closing(Postgres(temporary)) as postgres:
            up.process.signal(number)
            ended = await up.process.end()
            assert ended.code == 0
            assert "Traceback" not in ended.err
            assert postgres.has_ended()
    assert left_in(temporary) == []


async def test_killed_it_leaves_no_postgres(temporary: Path) -> None:
    """No handler runs; whoever watches must notice."""
    async with sandbox(temporary) as up:
        with closing(Postgres(temporary)) as postgres:
            up.process.signal(signal.SIGKILL)
            await up.process.end()
            assert await postgres.ended()
    assert left_in(temporary) == []


async def test_asked_to_stop_while_it_starts_it_ends_with_0(temporary: Path) -> None:
    """A newcomer's Ctrl-C comes whenever it comes."""
    command = (TOKEN_BROKER, "sandbox", "run", *ANY_PORTS)
    async with running(*command, env={"TMPDIR": str(temporary)}) as process:
        await process.out.line("Starting a broker")
        process.signal(signal.SIGINT)
        ended = await process.end()
    assert (ended.code, ended.err) == (0, "")


async def test_second_sandbox_beside_the_first_names_the_setting(temporary: Path) -> None:
    """With the ports of the first; it ends, and leaves the first alone."""
    async with sandbox(temporary) as up:
        taken = {
            "TOKEN_BROKER_GRPC_ADDRESS": up.grpc,
            "TOKEN_BROKER_HTTP_ADDRESS": up.http.removeprefix("http://"),
            "TOKEN_BROKER_SANDBOX_ENVOY_ADDRESS": up.envoy.removeprefix("http://"),
        }
        free = dict.fromkeys(taken, "127.0.0.1:0")
        attempts = [
            run(
                *(TOKEN_BROKER, "sandbox", "run", "--once", "--json"),
                env={**free, setting: address, "TMPDIR": str(temporary)},
            )
            for setting, address in taken.items()
        ]
        for (setting, address), ended in zip(taken.items(), await asyncio.gather(*attempts), strict=True):
            assert (ended.code, ended.out) == (1, "")
            assert f"{setting}: can't listen at {address}" in ended.err
            assert "--ports auto" in ended.err
            assert "Traceback" not in ended.err
        assert (await token_broker("token", "get", "1000000", "--address", up.grpc)).code == 0


async def test_kept_data_serve_the_next_run(temporary: Path) -> None:
    """--data-dir: the install is known, and its sealed tokens open."""
    data = temporary / "data"
    first = await run_once(temporary, data)
    second = await run_once(temporary, data)
    assert (first["generation"], second["generation"]) == (1, 2)
    assert left_in(temporary) == ["data"]


async def run_once(temporary: Path, data: Path) -> dict[str, object]:
    """What one run with kept data says."""
    arguments = ["sandbox", "run", "--once", "--json", *ANY_PORTS, f"--data-dir={data}"]
    ended = await token_broker(*arguments, env={"TMPDIR": str(temporary)})
    assert ended.code == 0, ended.err
    document: dict[str, object] = json.loads(ended.out)
    return document
