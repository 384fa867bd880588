"""The simulated Envoy's behaviours: for all installs or for one, for good or for some requests."""

from collections.abc import AsyncIterator

import pytest

from broker.sandbox.simulated_envoy.tokens import fingerprint
from tests.integration.served_envoy import ServedEnvoy, served_envoy


@pytest.fixture
async def envoy() -> AsyncIterator[ServedEnvoy]:
    """One app with the installs 1000000 and 2000000."""
    async with served_envoy() as served:
        await served.install("1000000")
        await served.install("2000000")
        yield served


async def test_temporary_behaviour_leaves_the_standing_one_beneath(envoy: ServedEnvoy) -> None:
    """A one-off fault under a rotation mode: the mode holds during and after it."""
    await envoy.behave(rotation="none")
    await envoy.behave(status=500, remaining=2)
    first = (await envoy.token(grant_type="plugin_install", install_id="1000000")).status_code
    assert first == 500
    assert (await envoy.token(grant_type="plugin_install", install_id="1000000")).status_code == 500
    pair = await envoy.mint()
    assert (await envoy.refreshed(pair["refresh_token"]))["refresh_token"] == pair["refresh_token"]


async def test_behaviour_of_one_install_leaves_the_others_alone(envoy: ServedEnvoy) -> None:
    """Also by a refresh token, which names its install only to Envoy."""
    pair = await envoy.mint("1000000")
    await envoy.behave("1000000", status=503)
    assert (await envoy.refresh(pair["refresh_token"])).status_code == 503
    await envoy.mint("2000000")
    answer = await envoy.http.delete("/_simulator/behaviour/1000000")
    assert answer.json()["behaviour"]["status"] is None
    await envoy.refreshed(pair["refresh_token"])


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"rotaton": "none"}, "rotaton"),
        ({"rotation": "sometimes"}, "rotation"),
        ({"access_token_lifetime_seconds": 0}, "access_token_lifetime_seconds"),
        ({"access_token_lifetime_seconds": "60"}, "access_token_lifetime_seconds"),
        ({"latency_seconds": -1}, "latency_seconds"),
        ({"mint_invalidates_earlier": 1}, "mint_invalidates_earlier"),
        ({"status": 200}, "status"),
        ({"remaining": 0}, "remaining"),
        ({"omit": "expires_in"}, "omit"),
        ([], "body"),
    ],
)
async def test_bad_behaviour_names_its_field_and_changes_nothing(
    envoy: ServedEnvoy, asked: object, field: str
) -> None:
    """A misspelt behaviour that is quietly ignored makes a test pass for the wrong reason."""
    before = (await envoy.http.get("/_simulator/behaviour")).json()
    answer = await envoy.http.put("/_simulator/behaviour", json=asked)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert (await envoy.http.get("/_simulator/behaviour")).json() == before


async def test_lifetimes_go_down_to_one_second(envoy: ServedEnvoy) -> None:
    """Expiry is tested without waiting a day."""
    await envoy.behave(access_token_lifetime_seconds=1, refresh_token_lifetime_seconds=2)
    pair = await envoy.mint()
    assert (pair["expires_in"], pair["refresh_token_expires_in"]) == (1, 2)
    envoy.clock.now += 1
    assert not await envoy.is_alive(pair["access_token"])
    assert await envoy.is_alive(pair["refresh_token"])
    envoy.clock.now += 1
    answer = await envoy.http.get(f"/_simulator/tokens/{fingerprint(pair['refresh_token'])}")
    assert answer.json()["why_dead"] == "expired"
    assert (await envoy.refresh(pair["refresh_token"])).json()["error"] == "invalid_grant"


async def test_unknown_fingerprint_is_not_found(envoy: ServedEnvoy) -> None:
    """Also one so short that it could name any token."""
    for unknown in ("0" * 16, "a"):
        assert (await envoy.http.get(f"/_simulator/tokens/{unknown}")).status_code == 404
