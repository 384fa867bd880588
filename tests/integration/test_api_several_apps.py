"""One broker for two apps of Envoy's, with installs of the same id at both."""

import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import httpx
import pytest
import pytest_asyncio

from broker.sandbox.simulated_envoy.tokens import fingerprint
from broker.sandbox.simulated_envoy.webhooks import sign
from tests.integration.refusals import assert_invalid, refusal_of
from tests.integration.served_broker import CALL_SECONDS, INSTALL_ID, ServedBroker, served_broker
from tests.integration.served_envoy import APP, OTHER_APP, served_envoy
from tokenbroker.v1 import error_reason_pb2, installs_pb2
from tokenbroker.v1 import token_broker_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH = (APP, OTHER_APP)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker_of_two(shared_database: str) -> AsyncIterator[ServedBroker]:
    """Both apps are installed at different companies, by the same install id."""
    async with served_envoy(BOTH) as envoy, served_broker(envoy, shared_database, BOTH) as broker:
        for number, app in enumerate(BOTH):
            await broker.installed(plugin_id=app.plugin_id, company_id=f"company-{number}")
        yield broker


async def family_of(broker: ServedBroker, token: str) -> dict[str, Any]:
    """Whose token it is, by Envoy's own books."""
    facts = await broker.envoy.http.get(f"/_simulator/tokens/{fingerprint(token)}")
    family: dict[str, Any] = facts.json()["family"]
    return family


async def test_f18_each_app_gets_its_own_token(broker_of_two: ServedBroker) -> None:
    """A token that crosses opens another company's data."""
    for number, app in enumerate(BOTH):
        token = await broker_of_two.get_token(plugin_id=app.plugin_id)
        assert (token.plugin_id, token.company_id) == (app.plugin_id, f"company-{number}")
        family = await family_of(broker_of_two, token.access_token)
        assert (family["plugin_id"], family["company_id"]) == (app.plugin_id, f"company-{number}")


async def test_f18_refresh_of_one_leaves_the_other(broker_of_two: ServedBroker) -> None:
    """Each is refreshed with its own app's secret and its own refresh token."""
    other = await broker_of_two.get_token(plugin_id=OTHER_APP.plugin_id)
    before = (await broker_of_two.get_install(plugin_id=APP.plugin_id)).generation
    assert (await broker_of_two.refresh(plugin_id=APP.plugin_id)).generation == before + 1
    token = await broker_of_two.get_token(plugin_id=APP.plugin_id)
    assert (await family_of(broker_of_two, token.access_token))["plugin_id"] == APP.plugin_id
    again = await broker_of_two.get_token(plugin_id=OTHER_APP.plugin_id)
    assert (again.access_token, again.generation) == (other.access_token, other.generation)


async def test_f18_batch_keeps_the_two_apart(broker_of_two: ServedBroker) -> None:
    """In one call, in one flight of look-ups."""
    requests = [pb.GetTokenRequest(plugin_id=app.plugin_id, install_id=INSTALL_ID) for app in BOTH] * 50
    async with broker_of_two.replica() as replica:
        reply = await replica.tokens.BatchGetTokens(
            pb.BatchGetTokensRequest(requests=requests), timeout=CALL_SECONDS
        )
    assert [result.token.plugin_id for result in reply.results] == [request.plugin_id for request in requests]
    assert len({(result.token.plugin_id, result.token.access_token) for result in reply.results}) == 2


async def test_app_must_be_named(broker_of_two: ServedBroker) -> None:
    """Guessing would hand out another app's token."""
    body = json.dumps({"meta": {"event": "x"}}).encode()
    calls: list[Awaitable[object]] = [
        broker_of_two.get_token(),
        broker_of_two.get_install(),
        broker_of_two.refresh(),
        broker_of_two.installs.DeleteInstall(installs_pb2.DeleteInstallRequest(install_id=INSTALL_ID)),
        broker_of_two.accept(body, sign(body, APP.client_secret)),
    ]
    for call in calls:
        assert_invalid(await refusal_of(call), "plugin_id")


async def test_app_must_be_named_in_each_request_of_a_batch(broker_of_two: ServedBroker) -> None:
    """The failure says so as the status would have."""
    requests = [
        pb.GetTokenRequest(install_id=INSTALL_ID),
        pb.GetTokenRequest(plugin_id=APP.plugin_id, install_id=INSTALL_ID),
    ]
    reply = await broker_of_two.tokens.BatchGetTokens(pb.BatchGetTokensRequest(requests=requests))
    failure = reply.results[0].failure
    assert (failure.reason, failure.field) == (error_reason_pb2.ERROR_REASON_INVALID_FIELD, "plugin_id")
    assert reply.results[1].HasField("token")


async def test_webhook_address_must_name_the_app(broker_of_two: ServedBroker) -> None:
    """The body may not choose the secret that it is checked with."""
    body = json.dumps({"meta": {"event": "x", "plugin_id": APP.plugin_id}}).encode()
    answer = await broker_of_two.post(body, sign(body, APP.client_secret))
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert answer.json()["message"].startswith("plugin_id")


async def test_webhook_of_one_app_is_refused_at_the_others_address(broker_of_two: ServedBroker) -> None:
    """Its secret signs for its own installs only."""
    body = json.dumps({"meta": {"event": "plugin_uninstalled", "install_id": INSTALL_ID}}).encode()
    signature = sign(body, APP.client_secret)
    answer = await broker_of_two.post(body, signature, OTHER_APP.plugin_id)
    assert answer.status_code == httpx.codes.UNAUTHORIZED
    refusal = await refusal_of(broker_of_two.accept(body, signature, OTHER_APP.plugin_id))
    assert refusal.reason == "SIGNATURE_REFUSED"
    install = await broker_of_two.get_install(plugin_id=OTHER_APP.plugin_id)
    assert install.state == installs_pb2.INSTALL_STATE_ACTIVE


async def test_list_shows_both_apps_or_the_one_that_is_named(broker_of_two: ServedBroker) -> None:
    """Operators see all; the filter is by id and not by guess."""
    everyone = await broker_of_two.installs.ListInstalls(installs_pb2.ListInstallsRequest(page_size=1))
    assert [install.plugin_id for install in everyone.installs] == [APP.plugin_id]
    rest = await broker_of_two.installs.ListInstalls(
        installs_pb2.ListInstallsRequest(page_size=1, page_token=everyone.next_page_token)
    )
    assert [install.plugin_id for install in rest.installs] == [OTHER_APP.plugin_id]
    named = await broker_of_two.installs.ListInstalls(
        installs_pb2.ListInstallsRequest(plugin_id=OTHER_APP.plugin_id)
    )
    assert [install.plugin_id for install in named.installs] == [OTHER_APP.plugin_id]
