"""The load generator against real grpcio servers: it must count what the server did, failures above all."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from os import getpid
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from bench.floor import Kind, answer
from bench.floors import floor
from bench.load import GET_TOKEN, LoadFailedError, Pace, Target, drive, write_messages
from bench.machine import Cores
from bench.report import Report
from bench.rounds import Contestant, compete
from bench.run import Run
from bench.seeding import TOKEN_CHARACTERS
from tokenbroker.v1.token_broker_pb2 import GetTokenRequest, GetTokenResponse

REPLY_BYTES = 280
BRIEF = Pace(seconds=0.2, warm_up_seconds=0.05, connections=2, in_flight=4)

Handler = Callable[[GetTokenRequest, grpc.aio.ServicerContext[Any, Any]], Awaitable[GetTokenResponse]]


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    """Two different requests."""
    requests = [GetTokenRequest(install_id=install) for install in ("1", "22")]
    return write_messages(tmp_path / "messages.bin", [request.SerializeToString() for request in requests])


@asynccontextmanager
async def serving(handler: Handler, messages: Path) -> AsyncIterator[Target]:
    """A server in this process."""
    _, service, method = GET_TOKEN.split("/")
    call: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=GetTokenRequest.FromString,
        response_serializer=GetTokenResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: call}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Target(port=port, pid=getpid(), messages=messages, reply_bytes=REPLY_BYTES - 1)
    finally:
        await server.stop(None)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("calls_per_second", [None, 200.0], ids=["closed loop", "open loop"])
async def test_every_floor_counts_as_the_generator_does(
    kind: Kind, calls_per_second: float | None, messages: Path
) -> None:
    """The two counts are independent: agreement is what makes the figures worth quoting."""
    pace = Pace(seconds=0.2, warm_up_seconds=0.05, calls_per_second=calls_per_second)

    async with floor(kind, messages=messages, reply_bytes=REPLY_BYTES, core=None) as contestant:
        assert contestant.count is not None
        load = await drive(contestant.target, pace, core=None)
        counted = await contestant.count()

    assert load.errors == {}
    assert counted == load.calls_in_all >= load.calls > 0


async def test_calls_that_the_server_fails_are_errors_by_their_status(messages: Path) -> None:
    """h2load counts these as successes."""
    numbers = count()
    failed = []

    async def fails_every_third(
        _request: GetTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetTokenResponse:
        if (number := next(numbers)) % 3 == 0:
            failed.append(number)
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown install")
        return answer(REPLY_BYTES)

    async with serving(fails_every_third, messages) as target:
        load = await drive(target, BRIEF, core=None)

    assert load.errors == {"grpc-status 5": len(failed)}
    assert load.calls_in_all == next(numbers) - len(failed)


async def test_an_answer_too_short_to_hold_a_token_is_no_success(messages: Path) -> None:
    """Otherwise a server that answers nothing would be the fastest."""
    numbers = count()

    async def empty_but_once(
        _request: GetTokenRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetTokenResponse:
        return GetTokenResponse() if next(numbers) % 2 else answer(REPLY_BYTES)

    async with serving(empty_but_once, messages) as target:
        load = await drive(target, BRIEF, core=None)

    assert load.errors["answer too short"] == next(numbers) // 2


async def test_requests_are_sent_in_turn_and_unchanged(messages: Path) -> None:
    """The scenario with a million installs depends on which install is asked for."""
    seen: list[str] = []

    async def remembers(
        request: GetTokenRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetTokenResponse:
        seen.append(request.install_id)
        return answer(REPLY_BYTES)

    async with serving(remembers, messages) as target:
        await drive(target, Pace(seconds=0.2, warm_up_seconds=0.05, connections=1, in_flight=1), core=None)

    assert seen == ["1", "22"] * (len(seen) // 2) + ["1"] * (len(seen) % 2)


async def test_a_server_that_answers_nothing_well_gives_no_figures(messages: Path) -> None:
    """A rate of nought is a failure of the benchmark, not a result."""

    async def refuses(
        _request: GetTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetTokenResponse:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no caller")
        raise AssertionError

    async with serving(refuses, messages) as target:
        with pytest.raises(LoadFailedError, match="grpc-status 16"):
            await drive(target, BRIEF, core=None)


async def test_each_round_begins_with_another_contestant(messages: Path, tmp_path: Path) -> None:
    """Who comes after whom may matter, and must not favour the same one each time."""
    began: list[str] = []
    report = Report(tmp_path / "bench.json", machine={}, options={})
    run = Run(2, BRIEF.seconds, True, Cores(None, None), tmp_path, report)  # noqa: FBT003 - as Run has it

    async def answers(
        _request: GetTokenRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetTokenResponse:
        return answer(REPLY_BYTES)

    async with serving(answers, messages) as target:
        contestants = [Contestant(name, target, prepare=partial(began.append, name)) for name in ("a", "b")]
        series = await compete(contestants, BRIEF, run, rounds=2)

    assert sorted(began[:2]) == sorted(began[2:]) == ["a", "b"]
    assert began[0] != began[2]
    assert [len(found.loads) for found in series.values()] == [2, 2]


def test_the_command_writes_a_report_of_every_contestant(tmp_path: Path) -> None:
    """`make bench` is this command."""
    output = tmp_path / "bench.json"
    arguments = ["--rounds", "1", "--seconds", "0.1", "--only", "get-token-fresh", "--output", str(output)]

    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], check=False, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    found = report["scenarios"]["get-token-fresh"]
    assert found["floor"] in {"aio", "aio-uvloop", "sync"}
    assert found["ratios_to_floor"][found["floor"]]["median"] == 1.0
    assert found["broker_to_floor"] == found["ratios_to_floor"]["broker"]
    assert set(found["at_saturation"]) == set(found["paced"]["contestants"]) == {*Kind, "broker"}
    assert not any(found["at_saturation"]["broker"]["rounds"][0]["errors"])
    assert found["reply_bytes"] > TOKEN_CHARACTERS
    assert report["machine"]["packages"]["grpcio"] != "absent"
