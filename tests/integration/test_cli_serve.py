"""`token-broker serve` and `migrate` as real processes: how they start, wait, drain and end."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc.aio
import httpx
import psycopg
import pytest

from tests.integration.served_broker import (
    CALL_SECONDS,
    INSTALL_ID,
    envoy_url,
    rows_of,
    served_broker,
    settings_for,
)
from tests.integration.served_envoy import APP, ServedEnvoy
from tests.processes import TOKEN_BROKER, Running, running, token_broker
from tokenbroker.v1 import token_broker_pb2, token_broker_pb2_grpc

# Stands in every bad value, so that a test can look for it.
MARK: Final = "do-not-show-me"
PAST_DUE: Final = timedelta(hours=18)
PAST_EXPIRY: Final = timedelta(hours=25)


def environment_for(envoy: ServedEnvoy, database: str, **variables: str) -> dict[str, str]:
    """What `serve` needs; logs as JSON, which tests read."""
    return settings_for(database, envoy_url(envoy), apps=(APP,), **({"LOG_FORMAT": "json"} | variables))


async def event(process: Running, name: str) -> dict[str, Any]:
    """The process's log line of that name, once it is there."""
    line: dict[str, Any] = json.loads(await process.err.line(f'"{name}"'))
    return line


@asynccontextmanager
async def serving(
    envoy: ServedEnvoy, database: str, **variables: str
) -> AsyncIterator[tuple[Running, str, str]]:
    """A process that serves, with its gRPC and HTTP addresses."""
    async with running(TOKEN_BROKER, "serve", env=environment_for(envoy, database, **variables)) as process:
        started = await event(process, "broker.started")
        await event(process, "broker.ready")
        yield process, started["grpc"], f"http://{started['http']}"


@contextmanager
def taken_port() -> Iterator[str]:
    """An address where somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_every_bad_setting_is_reported_at_once_before_any_port_opens() -> None:
    """An operator mends them in one go; a value may be a secret."""
    with taken_port() as address:
        ended = await token_broker(
            "serve",
            env={
                # Missing: the database, and the app's secret.
                "TOKEN_BROKER_HTTP_ADDRESS": address,  # taken: it would be reported, had it been tried
                "TOKEN_BROKER_GRPC_ADDRESS": MARK,
                "TOKEN_BROKER_KEYSET_FILE": f"/nowhere/{MARK}",
                "TOKEN_BROKER_KEYSETT": MARK,
                "TOKEN_BROKER_ENVOY_CLIENT_ID": MARK,
                "TOKEN_BROKER_ENVOY_TOKEN_URL": f"http://{MARK}.example/token",
                "TOKEN_BROKER_ENVOY_REQUEST_FORM": MARK,
                "TOKEN_BROKER_CALL_SECONDS": MARK,
                "TOKEN_BROKER_CALLS_IN_FLIGHT": "-1",
                "TOKEN_BROKER_REFLECTION": MARK,
            },
        )
    assert (ended.code, ended.out) == (1, "")
    assert MARK not in ended.err
    for variable in (
        "TOKEN_BROKER_DATABASE_URL must be set",
        "TOKEN_BROKER_ENVOY_CLIENT_SECRET",
        "TOKEN_BROKER_GRPC_ADDRESS",
        "TOKEN_BROKER_KEYSET_FILE",
        "TOKEN_BROKER_KEYSETT is no setting; did you mean TOKEN_BROKER_KEYSET?",
        "TOKEN_BROKER_ENVOY_TOKEN_URL",
        "TOKEN_BROKER_ENVOY_REQUEST_FORM",
        "TOKEN_BROKER_CALL_SECONDS",
        "TOKEN_BROKER_CALLS_IN_FLIGHT",
        "TOKEN_BROKER_REFLECTION",
    ):
        assert variable in ended.err
    assert "TOKEN_BROKER_HTTP_ADDRESS" not in ended.err
    assert "Traceback" not in ended.err


async def test_contradictions_are_reported_together(simulated_envoy: ServedEnvoy, tmp_path: Path) -> None:
    """Settings that are right one by one: none of them may win in silence."""
    secret = tmp_path / "secret"
    secret.write_text(MARK)
    environ = environment_for(
        simulated_envoy,
        f"postgresql://nobody:{MARK}@127.0.0.1:1/nothing",
        DATABASE_URL_FILE=str(secret),
        ENVOY_CLIENT_ID="one-app",
        CALL_SECONDS="50",
        GRPC_ADDRESS="0.0.0.0:0",
    )
    ended = await token_broker("serve", env=environ)
    assert (ended.code, ended.out) == (1, "")
    assert MARK not in ended.err
    for problem in (
        "TOKEN_BROKER_DATABASE_URL_FILE and TOKEN_BROKER_DATABASE_URL are both set",
        "TOKEN_BROKER_APPS",
        "TOKEN_BROKER_CLAIM_SECONDS",
        "TOKEN_BROKER_GRPC_ADDRESS must be a loopback address",
    ):
        assert problem in ended.err


async def test_secret_that_can_not_be_used_is_named_and_not_shown(simulated_envoy: ServedEnvoy) -> None:
    """A slip in a secret is found at the start, not at the first webhook; both at once."""
    environ = environment_for(
        simulated_envoy, f"postgresql//user:{MARK}@127.0.0.1/db", KEYSET=f'{{"{MARK}": []}}'
    )
    ended = await token_broker("serve", env=environ)
    assert (ended.code, ended.out) == (1, "")
    assert "TOKEN_BROKER_DATABASE_URL" in ended.err
    assert "TOKEN_BROKER_KEYSET" in ended.err
    assert MARK not in ended.err
    assert "Traceback" not in ended.err


async def test_taken_port_names_its_setting(simulated_envoy: ServedEnvoy, database: str) -> None:
    """And leaves nothing running."""
    settings = ("GRPC_ADDRESS", "HTTP_ADDRESS")
    with taken_port() as address:
        environs = [environment_for(simulated_envoy, database, **{each: address}) for each in settings]
        both = await asyncio.gather(*(token_broker("serve", env=environ) for environ in environs))
    for setting, ended in zip(settings, both, strict=True):
        assert (ended.code, ended.out) == (1, "")
        assert f"TOKEN_BROKER_{setting}" in ended.err
        assert address in ended.err
        assert "Traceback" not in ended.err


async def test_broker_waits_for_its_database_and_says_so(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """Both start at once after a power cut, and the database takes longer: its socket is not there yet."""
    parts = psycopg.conninfo.conninfo_to_dict(database)
    sockets = tmp_path / "sockets"
    url = f"postgresql://{parts['user']}@/{parts['dbname']}?host={sockets}&port={parts['port']}"
    environ = environment_for(simulated_envoy, url, DATABASE_SECONDS="0.5")
    async with running(TOKEN_BROKER, "serve", env=environ) as process:
        not_ready = await event(process, "broker.not_ready")
        assert "database" in not_ready["problem"]
        sockets.symlink_to(str(parts["host"]))
        await event(process, "broker.ready")


async def test_broker_waits_for_its_schema_and_says_so(
    simulated_envoy: ServedEnvoy, empty_database: str
) -> None:
    """Started before anybody ran `migrate`: alive, not ready, and ready by itself afterwards."""
    environ = environment_for(simulated_envoy, empty_database)
    async with running(TOKEN_BROKER, "serve", env=environ) as process:
        http = f"http://{(await event(process, 'broker.started'))['http']}"
        not_ready = await event(process, "broker.not_ready")
        assert "token-broker migrate" in not_ready["problem"]
        async with httpx.AsyncClient(base_url=http, trust_env=False) as client:
            assert (await client.get("/healthz")).status_code == httpx.codes.OK
            answer = await client.get("/readyz")
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert "token-broker migrate" in answer.text
            migrated = await token_broker("migrate", env={"TOKEN_BROKER_DATABASE_URL": empty_database})
            assert (migrated.code, migrated.out) == (
                0,
                "applied 0001_installs.sql\napplied 0002_protocol.sql\napplied 0003_observability.sql\n",
            )
            await event(process, "broker.ready")
            assert (await client.get("/readyz")).status_code == httpx.codes.OK


async def test_sigterm_with_nothing_under_way_ends_with_0(
    simulated_envoy: ServedEnvoy, database: str
) -> None:
    """What an orchestrator sends."""
    async with serving(simulated_envoy, database) as (process, _, _):
        process.signal(signal.SIGTERM)
        ended = await process.end()
    assert (ended.code, ended.out) == (0, "")
    assert '"broker.stopped"' in ended.err


@asynccontextmanager
async def a_refresh_that_envoy_holds(
    envoy: ServedEnvoy, database: str, *, age: timedelta, **variables: str
) -> AsyncIterator[tuple[Running, "asyncio.Task[Any]"]]:
    """A process whose refresh waits for Envoy, begun by a GetToken for a token of that age."""
    async with served_broker(envoy, database) as helper:
        await helper.installed()
        helper.age(INSTALL_ID, age)
    await envoy.behave(held="before_processing")
    async with (
        serving(envoy, database, **variables) as (process, address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
        request = token_broker_pb2.GetTokenRequest(install_id=INSTALL_ID)

        async def get_token() -> Any:
            return await stub.GetToken(request, timeout=CALL_SECONDS)

        call = asyncio.create_task(get_token())
        await envoy.ledger(await_requests=2)
        yield process, call
    await envoy.release()


def standing(database: str) -> list[tuple[int, bool]]:
    """Each install's generation, and whether it is in doubt."""
    return [(row["generation"], row["in_doubt"]) for row in rows_of(database)]


async def test_sigterm_lets_what_is_under_way_end(simulated_envoy: ServedEnvoy, database: str) -> None:
    """F37: the pair is stored, the caller answered, and only then the process gone."""
    held = a_refresh_that_envoy_holds(simulated_envoy, database, age=PAST_EXPIRY)
    async with held as (process, call):
        process.signal(signal.SIGTERM)
        await event(process, "broker.draining")
        await simulated_envoy.release()
        assert (await call).generation == 2
        assert (await process.end()).code == 0
    assert standing(database) == [(2, False)]


async def test_refresh_that_outlasts_the_drain_is_given_up(
    simulated_envoy: ServedEnvoy, database: str
) -> None:
    """It was waited for, though no caller does; then the install stays in doubt, which is always safe."""
    held = a_refresh_that_envoy_holds(simulated_envoy, database, age=PAST_DUE, DRAIN_SECONDS="0.5")
    async with held as (process, call):
        assert (await call).generation == 1
        process.signal(signal.SIGTERM)
        await event(process, "broker.drain_ran_out")
        assert (await process.end()).code == 0
    assert standing(database) == [(1, True)]


async def test_second_sigterm_ends_at_once(simulated_envoy: ServedEnvoy, database: str) -> None:
    """An operator who has waited long enough."""
    held = a_refresh_that_envoy_holds(simulated_envoy, database, age=PAST_EXPIRY)
    async with held as (process, call):
        process.signal(signal.SIGTERM)
        await event(process, "broker.draining")
        process.signal(signal.SIGTERM)
        assert (await process.end()).code == 1
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert standing(database) == [(1, True)]


async def test_log_holds_no_token_and_no_secret(simulated_envoy: ServedEnvoy, database: str) -> None:
    """P5, over a life of webhook, refresh, refusal and end, at the most talkative level."""
    async with serving(simulated_envoy, database, LOG_LEVEL="debug") as (process, address, http):
        url = f"{http}/envoy/webhooks"
        done = await simulated_envoy.install("1000000", webhook_url=url)
        body = json.loads(done["webhook"]["sent"]["body"])
        async with grpc.aio.insecure_channel(address) as channel:
            stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
            request = token_broker_pb2.GetTokenRequest(install_id="1000000")
            token = (await stub.GetToken(request, timeout=CALL_SECONDS)).access_token
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(url, content=b"{", headers={"X-Envoy-Signature": MARK})
        process.signal(signal.SIGTERM)
        ended = await process.end()
    secrets = [
        token,
        body["request_meta"]["auth"]["access_token"],
        done["webhook"]["sent"]["headers"]["X-Envoy-Signature"],
        "make-believe-secret",
        MARK,
        *json.loads(environment_for(simulated_envoy, database)["TOKEN_BROKER_KEYSET"])["key"][0]["keyData"][
            "value"
        ].split(),
    ]
    assert '"webhook.refused"' in ended.err
    assert [secret for secret in secrets if secret in ended.err] == []
    assert all(json.loads(line)["event"] for line in ended.err.splitlines())
