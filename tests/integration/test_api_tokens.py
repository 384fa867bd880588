"""TokenBroker over gRPC: a webhook becomes an install, and an install a valid token."""

import asyncio
import json
from datetime import timedelta

import grpc
import pytest
from google.protobuf import duration_pb2

from broker.sandbox.simulated_envoy.tokens import fingerprint
from tests.integration.refusals import refusal_of
from tests.integration.served_broker import CALL_SECONDS, COMPANY_ID, ServedBroker
from tokenbroker.v1 import error_reason_pb2, installs_pb2
from tokenbroker.v1 import token_broker_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = timedelta(days=1)


async def route_webhook(broker: ServedBroker, install_id: str) -> tuple[bytes, str]:
    """A signed route webhook of an install at Envoy, not yet sent to anybody."""
    sent = (await broker.envoy.install(install_id))["webhook"]["sent"]
    return sent["body"].encode(), sent["headers"]["X-Envoy-Signature"]


async def test_signed_route_webhook_is_exchanged_before_the_answer(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Whoever passes on a webhook may ask for the token at once."""
    accepted = await shared_broker.accept(*await route_webhook(shared_broker, install_id))
    assert accepted.kind == pb.WEBHOOK_KIND_ROUTE
    assert accepted.install.state == installs_pb2.INSTALL_STATE_ACTIVE
    assert (accepted.install.install_id, accepted.install.company_id) == (install_id, COMPANY_ID)
    assert (accepted.install.generation, accepted.install.in_doubt) == (1, False)
    entries = await shared_broker.envoy.ledger(install_id=install_id)
    assert [(entry["grant_type"], entry["outcome"]) for entry in entries] == [("plugin_install", "issued")]


async def test_same_webhook_again_fetches_nothing(shared_broker: ServedBroker, install_id: str) -> None:
    """Envoy sends a webhook again until it is answered, and mints may be limited."""
    webhook = await route_webhook(shared_broker, install_id)
    first = await shared_broker.accept(*webhook)
    again = await shared_broker.accept(*webhook)
    assert again.install.generation == first.install.generation
    assert len(await shared_broker.envoy.ledger(install_id=install_id)) == 1


async def test_f23_same_webhook_many_times_at_once_is_exchanged_once(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """A load balancer's retries arrive together."""
    webhook = await route_webhook(shared_broker, install_id)
    accepted = await asyncio.gather(*(shared_broker.accept(*webhook) for _ in range(100)))
    assert {each.install.generation for each in accepted} == {1}
    assert len(await shared_broker.envoy.ledger(install_id=install_id)) == 1


async def test_event_that_is_no_uninstall_changes_nothing(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Envoy's other events reach the same address."""
    body = json.dumps({"meta": {"event": "entry_sign_in", "install_id": install_id}, "payload": {}}).encode()
    before = shared_broker.rows()
    accepted = await shared_broker.accept(body, shared_broker.signature(body))
    assert accepted.kind == pb.WEBHOOK_KIND_OTHER
    assert not accepted.HasField("install")
    assert shared_broker.rows() == before


async def test_uninstalled_event_leaves_a_tombstone(shared_broker: ServedBroker, install_id: str) -> None:
    """A company that removes the app must see its tokens gone."""
    await shared_broker.installed(install_id)
    await shared_broker.get_token(install_id)
    sent = await shared_broker.envoy.http.post(f"/_simulator/installs/{install_id}/uninstall", json={})
    assert sent.json()["webhook"]["status"] == 200
    refusal = await refusal_of(shared_broker.get_token(install_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "INSTALL_NOT_FOUND")
    install = await shared_broker.get_install(install_id)
    assert install.state == installs_pb2.INSTALL_STATE_UNINSTALLED
    row = next(row for row in shared_broker.rows() if row["install_id"] == install_id)
    assert (row["access_token"], row["refresh_token"]) == (None, None)


async def test_uninstalled_event_for_an_unknown_install_is_accepted(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Refusing it would make Envoy send it again five times."""
    body = json.dumps({"meta": {"event": "plugin_uninstalled", "install_id": install_id}}).encode()
    accepted = await shared_broker.accept(body, shared_broker.signature(body))
    assert accepted.kind == pb.WEBHOOK_KIND_UNINSTALLED
    assert not accepted.HasField("install")


async def test_token_is_alive_at_envoy_and_the_installs_own(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Envoy itself is the judge of what was handed out."""
    await shared_broker.installed(install_id)
    token = await shared_broker.get_token(install_id)
    facts = await shared_broker.envoy.http.get(f"/_simulator/tokens/{fingerprint(token.access_token)}")
    assert facts.json()["alive"]
    assert facts.json()["family"]["install_id"] == install_id


async def test_token_says_all_that_a_caller_needs(shared_broker: ServedBroker, install_id: str) -> None:
    """Type, lifetime by two clocks, generation and whose data it opens."""
    await shared_broker.installed(install_id)
    token = await shared_broker.get_token(install_id)
    assert (token.token_type, token.generation, token.company_id) == ("Bearer", 1, COMPANY_ID)
    assert (token.plugin_id, token.install_id) == ("4242", install_id)
    assert DAY - timedelta(seconds=60) < token.expires_in.ToTimedelta() < DAY
    assert token.HasField("expire_time")


async def test_fresh_token_is_served_without_asking_envoy(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """The point of the house."""
    await shared_broker.installed(install_id)
    tokens = {(await shared_broker.get_token(install_id)).access_token for _ in range(5)}
    assert len(tokens) == 1
    assert len(await shared_broker.envoy.ledger(install_id=install_id)) == 1


@pytest.mark.parametrize("share", [0, 0.25, 0.5])
async def test_min_ttl_up_to_half_of_the_lifetime_is_served(
    shared_broker: ServedBroker, install_id: str, share: float
) -> None:
    """The documented bound itself is allowed."""
    await shared_broker.installed(install_id)
    min_ttl = duration_pb2.Duration(seconds=round(DAY.total_seconds() * share))
    token = await shared_broker.get_token(install_id, min_ttl=min_ttl)
    assert token.expires_in.seconds >= min_ttl.seconds


async def test_min_ttl_beyond_what_is_left_fetches_a_new_token(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """A caller with an hour's work gets a token that lives an hour."""
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, timedelta(hours=14))
    async with shared_broker.replica() as replica:
        token = await replica.get_token(install_id, min_ttl=duration_pb2.Duration(seconds=11 * 3600))
    assert token.generation == 2
    assert token.expires_in.seconds > 11 * 3600


async def test_batch_answers_each_request_in_its_place(shared_broker: ServedBroker, install_id: str) -> None:
    """One unknown install must not cost the others their tokens."""
    await shared_broker.installed(install_id)
    requests = [
        pb.GetTokenRequest(install_id=install_id),
        pb.GetTokenRequest(install_id="nobody"),
        pb.GetTokenRequest(install_id=""),
        pb.GetTokenRequest(install_id=install_id, min_ttl=duration_pb2.Duration(seconds=-1)),
        pb.GetTokenRequest(install_id=install_id),
    ]
    reply = await shared_broker.tokens.BatchGetTokens(
        pb.BatchGetTokensRequest(requests=requests), timeout=CALL_SECONDS
    )
    outcomes = [result.WhichOneof("result") for result in reply.results]
    assert outcomes == ["token", "failure", "failure", "failure", "token"]
    assert reply.results[0].token.access_token == reply.results[4].token.access_token
    failures = [(result.failure.reason, result.failure.field) for result in reply.results[1:4]]
    assert failures == [
        (error_reason_pb2.ERROR_REASON_INSTALL_NOT_FOUND, ""),
        (error_reason_pb2.ERROR_REASON_INVALID_FIELD, "install_id"),
        (error_reason_pb2.ERROR_REASON_INVALID_FIELD, "min_ttl"),
    ]
    assert [result.failure.code for result in reply.results[1:4]] == [5, 3, 3]


async def test_batch_asks_for_an_install_once_however_often_it_is_named(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """A thousand requests for one expired install are one call to Envoy."""
    await shared_broker.installed(install_id)
    shared_broker.age(install_id, 2 * DAY)
    async with shared_broker.replica() as replica:
        reply = await replica.tokens.BatchGetTokens(
            pb.BatchGetTokensRequest(requests=[pb.GetTokenRequest(install_id=install_id)] * 1000),
            timeout=CALL_SECONDS,
        )
    assert {result.token.generation for result in reply.results} == {2}
    assert len(await shared_broker.envoy.ledger(install_id=install_id)) == 2
