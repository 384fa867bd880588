"""The simulated Envoy's ledger: the judge of "a refresh token is presented at most once"."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime

import httpx
import pytest

from broker.sandbox.simulated_envoy.tokens import fingerprint
from tests.integration.served_envoy import ServedEnvoy, served_envoy

ROTATIONS = ["none", "grace", "strict", "family_revoked"]


@pytest.fixture
async def envoy() -> AsyncIterator[ServedEnvoy]:
    """One app with the installs 1000000 and 2000000."""
    async with served_envoy() as served:
        await served.install("1000000")
        await served.install("2000000")
        yield served


async def test_entry_tells_the_whole_request(envoy: ServedEnvoy) -> None:
    """Every field that a test may lean on, once."""
    pair = await envoy.mint()
    refreshed = await envoy.refreshed(pair["refresh_token"])
    entry = (await envoy.ledger(await_requests=2, until="answered"))[-1]
    assert datetime.fromisoformat(entry.pop("time")).timestamp() == envoy.clock.now
    assert entry == {
        "sequence": 2,
        "path": "/oauth2/token",
        "form": "multipart",
        "credentials": "body",
        "grant_type": "refresh_token",
        "plugin_id": "4242",
        "install_id": "1000000",
        "token_fingerprint": fingerprint(pair["refresh_token"]),
        "issued_access_fingerprint": fingerprint(refreshed["access_token"]),
        "issued_refresh_fingerprint": fingerprint(refreshed["refresh_token"]),
        "outcome": "issued",
        "answer": "documented",
        "processed": True,
        "answered": True,
        "outcome_known": True,
        "reuse": False,
        "after_unknown_outcome": False,
        "concurrent_with": [],
    }


async def test_ledger_holds_no_token(envoy: ServedEnvoy) -> None:
    """It is printed by failing tests."""
    pair = await envoy.mint()
    assert pair["access_token"] not in json.dumps(await envoy.ledger())
    assert pair["refresh_token"] not in json.dumps(await envoy.ledger())


@pytest.mark.parametrize("rotation", ["grace", "strict", "family_revoked"])
async def test_spent_token_presented_again_is_reuse(envoy: ServedEnvoy, rotation: str) -> None:
    """Also where the grace period lets it through: the promise was broken all the same."""
    await envoy.behave(rotation=rotation)
    old = (await envoy.mint())["refresh_token"]
    await envoy.refreshed(old)
    again = await envoy.refresh(old)
    assert [entry["reuse"] for entry in await envoy.ledger()] == [False, False, True]
    assert again.is_success is (rotation == "grace")


@pytest.mark.parametrize("rotation", ROTATIONS)
async def test_token_presented_after_an_unknown_outcome_is_marked(envoy: ServedEnvoy, rotation: str) -> None:
    """The second half of the promise, and the only trace of its breach where tokens do not rotate."""
    await envoy.behave(rotation=rotation)
    old = (await envoy.mint())["refresh_token"]
    await envoy.behave(cut="after_processing", remaining=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await envoy.refresh(old)
    await envoy.refresh(old)
    assert [entry["after_unknown_outcome"] for entry in await envoy.ledger()] == [False, False, True]


async def test_token_that_does_not_rotate_may_come_again_after_a_known_outcome(envoy: ServedEnvoy) -> None:
    """Under rotation "none" the same token is handed out each time: presenting it again is right."""
    await envoy.behave(rotation="none")
    token = (await envoy.mint())["refresh_token"]
    for _ in range(3):
        await envoy.refreshed(token)
    assert not any(entry["reuse"] or entry["after_unknown_outcome"] for entry in await envoy.ledger())


async def test_presentations_at_the_same_time_name_each_other(envoy: ServedEnvoy) -> None:
    """Two replicas with one token: both entries say so; a third, later one does not."""
    await envoy.behave(rotation="none", held="before_processing")
    token = await held_mint(envoy)
    both = [asyncio.create_task(envoy.refresh(token)) for _ in range(2)]
    await envoy.ledger(await_requests=3)
    await envoy.release()
    await asyncio.gather(*both)
    await envoy.behave(rotation="none")
    await envoy.refresh(token)
    assert [entry["concurrent_with"] for entry in await envoy.ledger()] == [[], [3], [2], []]


async def test_second_of_two_presentations_at_the_same_time_is_reuse(envoy: ServedEnvoy) -> None:
    """Neither was spent when it arrived; which one loses is decided when Envoy comes to it."""
    await envoy.behave(held="before_processing")
    token = await held_mint(envoy)
    both = [asyncio.create_task(envoy.refresh(token)) for _ in range(2)]
    await envoy.ledger(await_requests=3)
    await envoy.release()
    assert sorted(answer.status_code for answer in await asyncio.gather(*both)) == [200, 400]
    assert sorted(entry["reuse"] for entry in await envoy.ledger()) == [False, False, True]


async def held_mint(envoy: ServedEnvoy) -> str:
    """A refresh token, from a mint that is held and released."""
    minting = asyncio.create_task(envoy.mint())
    await envoy.ledger(await_requests=1)
    await envoy.release()
    token: str = (await minting)["refresh_token"]
    return token


async def test_reader_waits_for_requests_to_come(envoy: ServedEnvoy) -> None:
    """A test learns of a request by waiting for it, and need not sleep."""
    reading = asyncio.create_task(envoy.ledger(await_requests=2, until="answered", install_id="2000000"))
    await envoy.mint("2000000")
    await envoy.mint("1000000")
    assert not reading.done()
    await envoy.mint("2000000")
    assert [entry["install_id"] for entry in await reading] == ["2000000", "2000000"]


async def test_reader_gives_up_when_its_time_is_over(envoy: ServedEnvoy) -> None:
    """A wait always ends; who counts the entries sees that they are too few."""
    assert await envoy.ledger(await_requests=1, timeout_seconds=0.01) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"await_requests": "many"}, "await_requests"),
        ({"until": "later"}, "until"),
        ({"timeout_seconds": "999"}, "timeout_seconds"),
        ({"instal_id": "1"}, "instal_id"),
    ],
)
async def test_bad_query_names_its_parameter(envoy: ServedEnvoy, query: dict[str, str], field: str) -> None:
    """A filter that is quietly ignored makes a judge blind."""
    answer = await envoy.http.get("/_simulator/ledger", params=query)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_emptied_ledger_begins_anew_with_later_numbers(envoy: ServedEnvoy) -> None:
    """Sequence numbers never name two requests."""
    await envoy.mint()
    assert (await envoy.http.delete("/_simulator/ledger")).status_code == 204
    assert await envoy.ledger() == []
    await envoy.mint()
    assert [entry["sequence"] for entry in await envoy.ledger()] == [2]
