"""Installs over gRPC: what operators see and mend. Never a token among it."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from tests.integration.refusals import assert_invalid, refusal_of
from tests.integration.served_broker import CALL_SECONDS, ServedBroker, served_broker
from tests.integration.served_envoy import ServedEnvoy
from tokenbroker.v1 import installs_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(broker: ServedBroker, **fields: Any) -> list[str]:
    """The install ids of every page, in the order that they came."""
    request = pb.ListInstallsRequest(**fields)
    ids: list[str] = []
    while True:
        page = await broker.installs.ListInstalls(request, timeout=CALL_SECONDS)
        ids += [install.install_id for install in page.installs]
        if not page.next_page_token:
            return ids
        assert page.installs
        request.page_token = page.next_page_token


async def delete(broker: ServedBroker, install_id: str) -> pb.Install:
    """DeleteInstall."""
    request = pb.DeleteInstallRequest(install_id=install_id)
    return (await broker.installs.DeleteInstall(request, timeout=CALL_SECONDS)).install


async def test_install_shows_its_times_and_no_token(shared_broker: ServedBroker, install_id: str) -> None:
    """An operator learns when the next refresh is due, and nothing that opens anything."""
    await shared_broker.installed(install_id)
    token = (await shared_broker.get_token(install_id)).access_token
    install = await shared_broker.get_install(install_id)
    assert install.state == pb.INSTALL_STATE_ACTIVE
    assert install.create_time.ToDatetime() <= install.update_time.ToDatetime()
    assert install.refresh_due_time.ToDatetime() < install.expire_time.ToDatetime()
    assert install.expire_time.ToDatetime() < install.refresh_token_expire_time.ToDatetime()
    assert (install.attempt, install.HasField("last_failure")) == (1, False)
    assert token not in str(install)


async def test_pages_give_every_install_once_in_order(shared_broker: ServedBroker, install_id: str) -> None:
    """AIP-158: a caller that follows the page tokens sees all, whatever the size of a page."""
    ids = [f"{install_id}-{number}" for number in range(5)]
    await asyncio.gather(*(shared_broker.installed(each, company_id=install_id) for each in ids))
    for page_size in (1, 2, 3, 5, 6):
        assert await listed(shared_broker, company_id=install_id, page_size=page_size) == ids


async def test_page_size_is_capped_and_not_refused(shared_broker: ServedBroker, install_id: str) -> None:
    """AIP-158 again."""
    await shared_broker.installed(install_id, company_id=install_id)
    assert await listed(shared_broker, company_id=install_id, page_size=2**31 - 1) == [install_id]


async def test_filters_narrow_the_list_together(shared_broker: ServedBroker, install_id: str) -> None:
    """By app, by company, by state; a tombstone stays in the list."""
    kept, gone = f"{install_id}-kept", f"{install_id}-gone"
    for each in (kept, gone):
        await shared_broker.installed(each, company_id=install_id)
    await delete(shared_broker, gone)
    assert await listed(shared_broker, company_id=install_id) == [gone, kept]
    assert await listed(shared_broker, company_id=install_id, state="INSTALL_STATE_ACTIVE") == [kept]
    assert await listed(shared_broker, company_id=install_id, state="INSTALL_STATE_UNINSTALLED") == [gone]
    assert await listed(shared_broker, company_id=install_id, plugin_id="4242") == [gone, kept]
    assert await listed(shared_broker, company_id=install_id, plugin_id="4343") == []


async def test_failing_installs_can_be_listed_alone(shared_broker: ServedBroker, install_id: str) -> None:
    """Until the next success; a page token of such a list opens no other."""
    ids = [f"{install_id}-{number}" for number in range(3)]
    for each in ids:
        await shared_broker.installed(each, company_id=install_id)
    assert await listed(shared_broker, company_id=install_id, failing=True) == []
    for each in ids[:2]:
        await shared_broker.envoy.behave(each, cut="after_processing")
        await refusal_of(shared_broker.refresh(each))
    assert await listed(shared_broker, company_id=install_id, failing=True, page_size=1) == ids[:2]
    request = pb.ListInstallsRequest(company_id=install_id, failing=True, page_size=1)
    page = await shared_broker.installs.ListInstalls(request, timeout=CALL_SECONDS)
    other = pb.ListInstallsRequest(company_id=install_id, page_size=1, page_token=page.next_page_token)
    assert_invalid(
        await refusal_of(shared_broker.installs.ListInstalls(other, timeout=CALL_SECONDS)), "page_token"
    )
    for each in ids[:2]:
        await shared_broker.envoy.behave(each)
        await shared_broker.refresh(each)
    assert await listed(shared_broker, company_id=install_id, failing=True) == []


async def test_install_tells_its_last_attempts_alone_and_after_a_refresh(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Who looks at one install sees what was tried; a list of a thousand would only grow by it."""
    await shared_broker.installed(install_id, company_id=install_id)
    refreshed = await shared_broker.refresh(install_id)
    shown = await shared_broker.get_install(install_id)
    newest, first = shown.recent_attempts
    assert list(refreshed.recent_attempts) == list(shown.recent_attempts)
    assert (newest.attempt, newest.purpose, newest.ending, newest.generation) == (2, "forced", "refreshed", 2)
    assert (first.attempt, first.purpose, first.ending, first.generation) == (1, "exchange", "minted", 1)
    assert newest.begin_time.ToDatetime() <= newest.end_time.ToDatetime()
    assert newest.owner == first.owner != ""
    request = pb.ListInstallsRequest(company_id=install_id)
    (entry,) = (await shared_broker.installs.ListInstalls(request, timeout=CALL_SECONDS)).installs
    assert not entry.recent_attempts
    assert not (await delete(shared_broker, install_id)).recent_attempts


async def test_page_token_opens_no_list_with_other_filters(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """It would skip installs without a word."""
    for each in ("a", "b"):
        await shared_broker.installed(f"{install_id}{each}", company_id=install_id)
    request = pb.ListInstallsRequest(company_id=install_id, page_size=1)
    page = await shared_broker.installs.ListInstalls(request, timeout=CALL_SECONDS)
    other = pb.ListInstallsRequest(page_token=page.next_page_token)
    assert_invalid(await refusal_of(shared_broker.installs.ListInstalls(other)), "page_token")


async def test_refresh_brings_the_next_generation(shared_broker: ServedBroker, install_id: str) -> None:
    """Due or not: the operator has asked."""
    await shared_broker.installed(install_id)
    before = await shared_broker.get_token(install_id)
    assert (await shared_broker.refresh(install_id)).generation == 2
    after = await shared_broker.get_token(install_id)
    assert (after.generation, after.access_token != before.access_token) == (2, True)
    grants = [entry["grant_type"] for entry in await shared_broker.envoy.ledger(install_id=install_id)]
    assert grants == ["plugin_install", "refresh_token"]


async def test_refreshes_asked_for_at_once_never_meet_at_envoy(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Two operators, one press of the button each: one joins the other, or comes after."""
    await shared_broker.installed(install_id)
    installs = await asyncio.gather(*(shared_broker.refresh(install_id) for _ in range(20)))
    presented = (await shared_broker.envoy.ledger(install_id=install_id))[1:]
    assert [entry["concurrent_with"] for entry in presented] == [[]] * len(presented)
    assert len(presented) == max(install.generation for install in installs) - 1


async def test_delete_destroys_the_tokens_and_twice_is_no_error(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """An operator who is not sure whether it worked does it again."""
    await shared_broker.installed(install_id)
    await shared_broker.get_token(install_id)
    for _ in range(2):
        install = await delete(shared_broker, install_id)
        assert install.state == pb.INSTALL_STATE_UNINSTALLED
        assert not install.HasField("expire_time")
    refusal = await refusal_of(shared_broker.get_token(install_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INSTALL_NOT_FOUND")


async def test_deleted_install_comes_back_by_a_new_webhook(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """The company has installed the app again."""
    await shared_broker.installed(install_id)
    await delete(shared_broker, install_id)
    await shared_broker.installed(install_id)
    token = await shared_broker.get_token(install_id)
    assert token.generation == 2
    assert (await shared_broker.get_install(install_id)).state == pb.INSTALL_STATE_ACTIVE


async def test_install_that_envoy_refuses_needs_reauthorization(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """The operator reads why, and the company's next setup revives it."""
    await shared_broker.installed(install_id)
    await shared_broker.envoy.behave(install_id, refuse="grant")
    refusal = await refusal_of(shared_broker.refresh(install_id))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "REAUTHORIZATION_REQUIRED",
    )
    install = await shared_broker.get_install(install_id)
    assert install.state == pb.INSTALL_STATE_REAUTHORIZATION_REQUIRED
    assert (install.last_failure.kind, install.last_failure.count) == ("invalid_grant", 1)
    assert (await refusal_of(shared_broker.get_token(install_id))).reason == "REAUTHORIZATION_REQUIRED"
    await shared_broker.envoy.behave(install_id)
    await shared_broker.installed(install_id)
    assert (await shared_broker.get_token(install_id)).generation == 2


async def test_f08_refused_client_marks_no_install(
    shared_envoy: ServedEnvoy, database: str, install_id: str
) -> None:
    """The app's secret is wrong: no company can mend that by going through a setup."""
    async with served_broker(shared_envoy, database) as broker:
        await broker.installed(install_id)
        await broker.envoy.behave(install_id, refuse="client")
        refusal = await refusal_of(broker.refresh(install_id))
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "CLIENT_CREDENTIALS_REFUSED",
        )
        assert (await broker.get_install(install_id)).state == pb.INSTALL_STATE_ACTIVE
        assert (await broker.get_token(install_id)).generation == 1


async def test_failed_refresh_says_when_to_retry(
    shared_envoy: ServedEnvoy, database: str, install_id: str
) -> None:
    """Envoy's own Retry-After, passed on."""
    async with served_broker(shared_envoy, database) as broker:
        await broker.installed(install_id)
        await broker.envoy.behave(install_id, status=429, retry_after_seconds=7)
        refusal = await refusal_of(broker.refresh(install_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
        assert refusal.retry_after == timedelta(seconds=7)
        failure = (await broker.get_install(install_id)).last_failure
        assert failure.kind == "rate_limited"
        waited = failure.retry_time.ToDatetime() - failure.fail_time.ToDatetime()
        assert abs(waited - timedelta(seconds=7)) < timedelta(seconds=1)
