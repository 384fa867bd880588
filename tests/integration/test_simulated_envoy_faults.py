"""The simulated Envoy's faults: each is what it says on the wire, and touches the tokens as it says."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn

from broker.sandbox.simulated_envoy import SimulatedEnvoy
from tests.integration.served_envoy import APP, CREDENTIALS, ServedEnvoy, served_envoy, serving


@pytest.fixture
async def envoy() -> AsyncIterator[ServedEnvoy]:
    """One app with the installs 1000000 and 2000000."""
    async with served_envoy() as served:
        await served.install("1000000")
        await served.install("2000000")
        yield served


async def raw_refresh(envoy: ServedEnvoy, refresh_token: str) -> bytes:
    """Everything that comes back over the connection until Envoy closes it."""
    body = json.dumps(CREDENTIALS | {"grant_type": "refresh_token", "refresh_token": refresh_token}).encode()
    head = f"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", envoy.port)
    writer.write(head.encode() + body)
    async with asyncio.timeout(20):
        answered = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answered


@pytest.mark.parametrize(("cut", "spent"), [("before_processing", False), ("after_processing", True)])
async def test_cut_answers_not_one_byte(envoy: ServedEnvoy, cut: str, spent: bool) -> None:
    """The client cannot know on which side of the processing it was cut off."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(cut=cut, remaining=1)
    assert await raw_refresh(envoy, old) == b""
    assert await envoy.is_alive(old) is not spent
    entry = (await envoy.ledger())[-1]
    assert (entry["answer"], entry["outcome_known"]) == ("cut", False)
    assert entry["outcome"] == ("issued" if spent else "not_processed")


async def test_cut_in_mid_answer_leaves_half_a_pair(envoy: ServedEnvoy) -> None:
    """The status line says 200, and the body never ends."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(cut="mid_answer", remaining=1)
    answered = await raw_refresh(envoy, old)
    assert answered.startswith(b"HTTP/1.1 200")
    assert b'"token_type"' in answered
    assert not answered.endswith(b"}")
    assert not await envoy.is_alive(old)


async def test_connection_is_good_again_after_a_cut(envoy: ServedEnvoy) -> None:
    """A cut ends one connection, not the server."""
    await envoy.behave(cut="after_processing", remaining=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await envoy.mint()
    await envoy.mint()


@pytest.mark.parametrize("body", ["truncated", "not_json", "deeply_nested"])
async def test_broken_body_is_no_json_that_python_reads(envoy: ServedEnvoy, body: str) -> None:
    """Each is a 200 whose pair is lost to the client."""
    await envoy.behave(body=body)
    answer = await envoy.token(grant_type="plugin_install", install_id="1000000")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json; charset=utf-8")
    with pytest.raises((ValueError, RecursionError)):
        answer.json()
    assert (await envoy.ledger())[-1]["outcome"] == "issued"


async def test_duplicate_keys_hide_another_access_token(envoy: ServedEnvoy) -> None:
    """Parsers differ in which of two equal keys they keep."""
    await envoy.behave(body="duplicate_keys")
    answer = await envoy.token(grant_type="plugin_install", install_id="1000000")
    keys = [name for name, _ in json.loads(answer.text, object_pairs_hook=list)]
    assert keys.count("access_token") == 2


async def test_huge_body_is_as_huge_as_it_says(envoy: ServedEnvoy) -> None:
    """Only a reader with a bound survives one that never seems to end."""
    await envoy.behave(body="huge", huge_mebibytes=3)
    answer = await envoy.token(grant_type="plugin_install", install_id="1000000")
    assert len(answer.content) > 3 * 1_048_576
    assert answer.json()["token_type"] == "Bearer"


@pytest.mark.parametrize("value", ["86400", -1, 0, 1.5, None, True, 10**30, [], {}])
async def test_overrides_replace_fields_of_the_answer(envoy: ServedEnvoy, value: object) -> None:
    """Wrong types and impossible values, in any field."""
    await envoy.behave(overrides={"expires_in": value, "company_id": "999"})
    pair = await envoy.mint()
    assert (pair["expires_in"], pair["company_id"]) == (value, "999")


async def test_nan_goes_over_the_wire_as_nan(envoy: ServedEnvoy) -> None:
    """Python reads it as a number; a client must not."""
    asked = b'{"overrides": {"expires_in": NaN}}'
    answer = await envoy.http.put("/_simulator/behaviour", content=asked)
    assert answer.status_code == 200
    pair = await envoy.mint()
    assert math.isnan(pair["expires_in"])


async def test_omitted_fields_are_missing(envoy: ServedEnvoy) -> None:
    """A refresh without a refresh token in its answer keeps the old one, under rotation "none"."""
    old = await envoy.mint()
    await envoy.behave(rotation="none", omit=["refresh_token", "refresh_token_expires_in"], remaining=1)
    answer = await envoy.refreshed(old["refresh_token"])
    assert "refresh_token" not in answer
    assert "refresh_token_expires_in" not in answer
    await envoy.refreshed(old["refresh_token"])


@pytest.mark.parametrize("retry_after", [None, 0, 30])
async def test_429_comes_with_and_without_retry_after(envoy: ServedEnvoy, retry_after: int | None) -> None:
    """Nothing is spent by a request that was one too many."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(status=429, retry_after_seconds=retry_after, remaining=1)
    answer = await envoy.refresh(old)
    assert answer.status_code == 429
    assert answer.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert await envoy.is_alive(old)
    assert (await envoy.ledger())[-1]["outcome_known"]


@pytest.mark.parametrize("after", [False, True])
async def test_5xx_may_hide_a_spent_token(envoy: ServedEnvoy, after: bool) -> None:
    """A gateway's 502 does not tell whether what is behind it has rotated the token."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(status=502, status_after_processing=after, remaining=1)
    assert (await envoy.refresh(old)).status_code == 502
    assert await envoy.is_alive(old) is not after
    assert not (await envoy.ledger())[-1]["outcome_known"]


@pytest.mark.parametrize("unkind", [{"status_after_processing": True}, {"process_after_seconds": 0}])
async def test_status_below_500_may_hide_a_spent_token_too(
    envoy: ServedEnvoy, unkind: dict[str, Any]
) -> None:
    """Then the ledger does not blame a client for what it could not know, nor call the outcome known."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(status=429, remaining=1, **unkind)
    assert (await envoy.refresh(old)).status_code == 429
    entry = (await envoy.ledger(await_requests=2, until="processed"))[-1]
    assert (entry["outcome"], entry["outcome_known"]) == ("issued", False)
    assert not await envoy.is_alive(old)


async def test_redirect_points_to_the_other_address(envoy: ServedEnvoy) -> None:
    """A client that follows it shows up in the ledger twice."""
    await envoy.behave(status=307)
    answer = await envoy.token(grant_type="plugin_install", install_id="1000000")
    assert (answer.status_code, answer.headers["location"]) == (307, "/a/auth/v0/token")


@pytest.mark.parametrize(("refuse", "error"), [("grant", "invalid_grant"), ("client", "invalid_client")])
async def test_refusals_spend_nothing(envoy: ServedEnvoy, refuse: str, error: str) -> None:
    """The same token works once the refusals end."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(refuse=refuse, remaining=1)
    assert (await envoy.refresh(old)).json()["error"] == error
    await envoy.refreshed(old)


@pytest.mark.parametrize("held", ["before_processing", "after_processing"])
async def test_held_request_waits_for_its_release(envoy: ServedEnvoy, held: str) -> None:
    """A test can stop the world just before or just after Envoy spends a token, without a clock."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(held=held, remaining=1)
    waiting = asyncio.create_task(envoy.refreshed(old))
    await envoy.ledger(await_requests=2)
    assert await envoy.is_alive(old) is (held == "before_processing")
    assert not waiting.done()
    await envoy.release()
    assert await envoy.is_alive((await waiting)["refresh_token"])


async def test_request_whose_sender_left_is_processed_all_the_same(envoy: ServedEnvoy) -> None:
    """The client's time-out does not un-spend a token, and the ledger says that nobody heard the answer."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(held="before_processing", remaining=1)
    waiting = asyncio.create_task(envoy.refresh(old))
    await envoy.ledger(await_requests=2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await envoy.release()
    entry = (await envoy.ledger(await_requests=2, until="answered"))[-1]
    assert (entry["outcome"], entry["answer"], entry["outcome_known"]) == ("issued", "client_gone", False)


@pytest.mark.parametrize("answered", [{"status": 504}, {"cut": "before_processing"}, {}])
async def test_late_processing_takes_effect_after_the_answer(
    envoy: ServedEnvoy, answered: dict[str, Any]
) -> None:
    """Envoy may process a request that its sender has long given up."""
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(process_after_seconds=0, held="before_processing", remaining=1, **answered)
    reply = await raw_refresh_or_status(envoy, old)
    assert reply == answered.get("status", "cut")
    assert await envoy.is_alive(old)
    assert (await envoy.ledger())[-1]["outcome"] == "in_flight"
    await envoy.release()
    entry = (await envoy.ledger(await_requests=2, until="processed"))[-1]
    assert entry["outcome"] == "issued"
    assert not await envoy.is_alive(old)


async def raw_refresh_or_status(envoy: ServedEnvoy, refresh_token: str) -> int | str:
    """The status of the answer, or that there was none."""
    try:
        return (await envoy.refresh(refresh_token)).status_code
    except httpx.RemoteProtocolError:
        return "cut"


async def test_cut_shows_on_a_server_that_hides_its_connections() -> None:
    """Under a plain uvicorn a cut still breaks the answer, so that no client takes it for a success."""
    simulated = SimulatedEnvoy([APP])
    async with (
        serving(uvicorn.Config(simulated.asgi, log_config=None, ws="none")) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        await http.put("/_simulator/behaviour", json={"cut": "before_processing"})
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post("/oauth2/token", json=CREDENTIALS | {"grant_type": "client_credentials"})


async def test_shutdown_gives_up_late_processing() -> None:
    """A held request that nobody releases must not keep the sandbox from ending."""
    async with served_envoy() as envoy:
        await envoy.behave(cut="before_processing", process_after_seconds=0, held="before_processing")
        with pytest.raises(httpx.RemoteProtocolError):
            await envoy.mint()
    assert asyncio.all_tasks() == {asyncio.current_task()}
