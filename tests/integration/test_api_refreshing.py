"""Tokens that come of age, through a whole broker: when Envoy is asked, how often, and what callers get meanwhile.

Time is moved in the database, which all replicas live by; a replica that starts afterwards has nothing cached.
"""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2

from tests.integration.refusals import refusal_of
from tests.integration.served_broker import CALL_SECONDS, ServedBroker, served_broker
from tokenbroker.v1 import installs_pb2, token_broker_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAST_DUE = timedelta(hours=18)
PAST_EXPIRY = timedelta(hours=25)
CALLERS = 200


async def presentations(broker: ServedBroker, install_id: str) -> list[dict[str, Any]]:
    """Each time that a refresh token of the install was presented."""
    entries = await broker.envoy.ledger(install_id=install_id)
    return [entry for entry in entries if entry["token_fingerprint"] is not None]


def promise_one_spend_is_kept(entries: list[dict[str, Any]]) -> bool:
    """P1, by Envoy's own books."""
    return not any(
        entry["reuse"] or entry["after_unknown_outcome"] or entry["concurrent_with"] for entry in entries
    )


async def test_stale_token_is_served_at_once_and_refreshed_behind(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """A caller never waits for Envoy while there is a valid token."""
    envoy = shared_broker.envoy
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_DUE)
    await envoy.behave(install_id, held="before_processing")
    async with shared_broker.replica() as replica:
        assert (await replica.get_token(install_id)).generation == 1
        assert len(await envoy.ledger(install_id=install_id, await_requests=2)) == 2
        assert (await replica.get_token(install_id)).generation == 1
        await envoy.release()
        more_than_is_left = duration_pb2.Duration(seconds=7 * 3600)
        assert (await replica.get_token(install_id, min_ttl=more_than_is_left)).generation == 2
    assert len(await presentations(shared_broker, install_id)) == 1


async def test_expired_token_makes_200_callers_wait_for_one_refresh(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """P4: however many they are, Envoy hears of it once."""
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_EXPIRY)
    async with shared_broker.replica() as replica:
        tokens = await asyncio.gather(*(replica.get_token(install_id) for _ in range(CALLERS)))
    assert {token.generation for token in tokens} == {2}
    assert len({token.access_token for token in tokens}) == 1
    assert len(await presentations(shared_broker, install_id)) == 1


async def test_expired_token_makes_callers_of_two_replicas_wait_for_one_refresh(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """P4 across processes: row locks decide, and the others take the winner's token."""
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_EXPIRY)
    async with shared_broker.replica() as one, shared_broker.replica() as two:
        tokens = await asyncio.gather(
            *(each.get_token(install_id) for each in (one, two) for _ in range(CALLERS // 2))
        )
    assert {token.generation for token in tokens} == {2}
    assert len(await presentations(shared_broker, install_id)) == 1


async def test_f17_caller_that_gives_up_leaves_the_refresh_to_the_others(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """The task belongs to no caller, not even to the one that began it."""
    envoy = shared_broker.envoy
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_EXPIRY)
    await envoy.behave(install_id, held="before_processing")
    async with shared_broker.replica() as replica:
        first = asyncio.ensure_future(replica.get_token(install_id))
        await envoy.ledger(install_id=install_id, await_requests=2)
        second = asyncio.ensure_future(replica.get_token(install_id))
        first.cancel()
        await asyncio.wait([first])
        await envoy.release()
        assert (await second).generation == 2
    assert first.cancelled()
    assert len(await presentations(shared_broker, install_id)) == 1


@pytest.mark.parametrize("rotation", ["none", "grace", "strict", "family_revoked"])
async def test_no_rotation_ever_sees_a_refresh_token_twice(
    shared_broker: ServedBroker, install_id: str, rotation: str
) -> None:
    """P1 under each answer that Envoy may give, with two replicas that refresh at once."""
    await shared_broker.envoy.behave(install_id, rotation=rotation)
    await shared_broker.installed(install_id)
    async with shared_broker.replica() as replica:
        for _ in range(5):
            await asyncio.gather(*(each.refresh(install_id) for each in (shared_broker, replica)))
        newest = await replica.get_install(install_id)
        token = await replica.get_token(install_id)
    assert newest.generation >= 6
    assert await shared_broker.envoy.is_alive(token.access_token)
    entries = await presentations(shared_broker, install_id)
    assert len(entries) == newest.generation - 1
    assert promise_one_spend_is_kept(entries)


@pytest.mark.parametrize("rotation", ["none", "grace", "strict", "family_revoked"])
async def test_f02_after_a_lost_answer_the_next_attempt_mints(
    shared_broker: ServedBroker, install_id: str, rotation: str
) -> None:
    """Envoy may have spent the token: it is not presented again, and the caller has a valid one meanwhile."""
    envoy = shared_broker.envoy
    await envoy.behave(install_id, rotation=rotation)
    await shared_broker.installed(install_id)
    await envoy.behave(install_id, rotation=rotation, cut="after_processing", remaining=1)
    refusal = await refusal_of(shared_broker.refresh(install_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert refusal.retry_after is not None
    assert (await shared_broker.get_install(install_id)).in_doubt
    assert (await shared_broker.get_token(install_id)).generation == 1
    await shared_broker.refresh(install_id)
    entries = await envoy.ledger(install_id=install_id)
    assert [entry["grant_type"] for entry in entries] == ["plugin_install", "refresh_token", "plugin_install"]
    assert promise_one_spend_is_kept(entries)


async def test_f07_refused_refresh_token_is_mended_by_one_mint(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """The caller waits once, and never learns of it."""
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_EXPIRY)
    await shared_broker.envoy.behave(install_id, refuse="grant", remaining=1)
    async with shared_broker.replica() as replica:
        token = await replica.get_token(install_id)
    assert await shared_broker.envoy.is_alive(token.access_token)
    entries = await shared_broker.envoy.ledger(install_id=install_id)
    assert [entry["outcome"] for entry in entries] == ["issued", "invalid_grant", "issued"]
    assert entries[-1]["grant_type"] == "plugin_install"


async def test_valid_token_is_served_while_envoy_is_down(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """P3: hours of outage at Envoy are none of ours while the token lives, and Envoy is not stormed."""
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_DUE)
    await shared_broker.envoy.behave(install_id, status=503)
    async with shared_broker.replica() as replica:
        for _ in range(50):
            assert (await replica.get_token(install_id)).generation == 1
    # One attempt presents; a second one may fall due by its back-off while this test runs.
    assert len(await presentations(shared_broker, install_id)) == 1


async def test_expired_token_is_refused_while_envoy_is_down(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """P3: a token that has expired is never handed out; the caller reads when to retry."""
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_EXPIRY)
    await shared_broker.envoy.behave(install_id, status=503)
    async with shared_broker.replica() as replica:
        refusal = await refusal_of(replica.get_token(install_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
        assert refusal.retry_after is not None
        await shared_broker.envoy.behave(install_id)
        shared_broker.age(install_id, timedelta(seconds=2))
        assert (await replica.get_token(install_id)).generation == 2


async def test_webhooks_own_token_serves_until_envoy_is_back(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """An install that happens during an outage is not lost, and becomes whole by itself."""
    envoy = shared_broker.envoy
    await envoy.behave(install_id, status=503)
    delivered = await shared_broker.install(install_id)
    assert delivered["status"] == 200
    install = await shared_broker.get_install(install_id)
    assert install.state == installs_pb2.INSTALL_STATE_PROVISIONAL
    provisional = await shared_broker.get_token(install_id)
    assert provisional.access_token in delivered["sent"]["body"]
    assert await envoy.is_alive(provisional.access_token)
    await envoy.behave(install_id)
    shared_broker.age(install_id, timedelta(seconds=2))
    async with shared_broker.replica() as replica:
        await replica.get_token(install_id)
        await envoy.ledger(install_id=install_id, await_requests=2, until="answered")
    install = await shared_broker.get_install(install_id)
    assert install.state == installs_pb2.INSTALL_STATE_ACTIVE
    assert not install.HasField("last_failure")


async def test_f06_another_companys_token_is_not_handed_out(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """An answer that names another company opens somebody else's data: nobody gets a token until somebody has looked."""
    await shared_broker.installed(install_id)
    before = await shared_broker.get_token(install_id)
    await shared_broker.envoy.behave(install_id, overrides={"company_id": "999999"})
    assert (await refusal_of(shared_broker.refresh(install_id))).reason == "REAUTHORIZATION_REQUIRED"
    assert (await refusal_of(shared_broker.get_token(install_id))).reason == "REAUTHORIZATION_REQUIRED"
    install = await shared_broker.get_install(install_id)
    assert (install.company_id, install.last_failure.kind) == (before.company_id, "company_mismatch")


async def test_rejected_token_is_replaced_once(shared_broker: ServedBroker, install_id: str) -> None:
    """Envoy said 401: the broker fetches another, and a second report of the same one changes nothing."""
    await shared_broker.installed(install_id)
    before = await shared_broker.get_token(install_id)
    request = token_broker_pb2.ReportRejectedTokenRequest(install_id=install_id, generation=before.generation)
    report = await shared_broker.tokens.ReportRejectedToken(request, timeout=CALL_SECONDS)
    assert (report.invalidated, report.generation) == (True, before.generation)
    after = await shared_broker.get_token(install_id)
    assert after.generation == before.generation + 1
    again = await shared_broker.tokens.ReportRejectedToken(request, timeout=CALL_SECONDS)
    assert (again.invalidated, again.generation) == (False, after.generation)


async def test_deleted_install_is_forgotten_by_other_replicas_soon(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Staleness is bounded by a setting; where it is next to nothing, by the next call."""
    await shared_broker.installed(install_id)
    async with served_broker(
        shared_broker.envoy, shared_broker.database, CACHE_STALENESS_SECONDS="0.000001"
    ) as replica:
        await replica.get_token(install_id)
        request = installs_pb2.DeleteInstallRequest(install_id=install_id)
        await shared_broker.installs.DeleteInstall(request)
        assert (await refusal_of(replica.get_token(install_id))).reason == "INSTALL_NOT_FOUND"


async def test_in_flight_refresh_is_stored_when_the_broker_stops(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """F37: the pair that Envoy has issued must outlive the process that asked for it, and its caller is answered."""
    envoy = shared_broker.envoy
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, PAST_EXPIRY)
    await envoy.behave(install_id, held="after_processing")
    async with shared_broker.replica() as replica:
        waiting = asyncio.ensure_future(replica.get_token(install_id))
        await envoy.ledger(install_id=install_id, await_requests=2, until="processed")
        stopping = asyncio.ensure_future(replica.broker.stop())
        await envoy.release()
        assert (await waiting).generation == 2
        await stopping
    assert (await shared_broker.get_install(install_id)).generation == 2
