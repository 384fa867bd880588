"""AcceptRouteWebhook on a caller's word, where the operator allows that."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import duration_pb2

from tests.integration.refusals import assert_invalid, refusal_of
from tests.integration.served_broker import CALL_SECONDS, ServedBroker, served_broker
from tests.integration.served_envoy import ServedEnvoy
from tokenbroker.v1 import installs_pb2
from tokenbroker.v1 import token_broker_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trusting(shared_envoy: ServedEnvoy, shared_database: str) -> AsyncIterator[ServedBroker]:
    """A broker that takes parsed webhooks."""
    async with served_broker(shared_envoy, shared_database, TRUST_VOUCHED_WEBHOOKS="true") as broker:
        yield broker


async def vouch(broker: ServedBroker, **fields: Any) -> Any:
    """AcceptRouteWebhook, vouched."""
    request = pb.AcceptRouteWebhookRequest(vouched=pb.VouchedWebhook(**fields))
    return await broker.tokens.AcceptRouteWebhook(request, timeout=CALL_SECONDS)


async def test_vouched_webhook_is_exchanged(trusting: ServedBroker, install_id: str) -> None:
    """As a signed one."""
    await trusting.envoy.install(install_id)
    accepted = await vouch(trusting, install_id=install_id, access_token="its-own", company_id="100000")
    assert accepted.kind == pb.WEBHOOK_KIND_ROUTE
    assert accepted.install.state == installs_pb2.INSTALL_STATE_ACTIVE
    assert (await trusting.get_token(install_id)).access_token != "its-own"


async def test_vouched_token_serves_while_envoy_is_down(trusting: ServedBroker, install_id: str) -> None:
    """It came from Envoy, after all; ten minutes ago for all we know, since Envoy sends again for so long."""
    await trusting.envoy.install(install_id)
    await trusting.envoy.behave(install_id, status=503)
    hour = duration_pb2.Duration(seconds=3600)
    accepted = await vouch(trusting, install_id=install_id, access_token="its-own", expires_in=hour)
    assert accepted.install.state == installs_pb2.INSTALL_STATE_PROVISIONAL
    token = await trusting.get_token(install_id)
    assert token.access_token == "its-own"
    assert 2900 < token.expires_in.seconds < 3000


BAD_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "no_token": ({"access_token": ""}, "vouched.access_token"),
    "token_with_a_newline": ({"access_token": "a\nX-Header: b"}, "vouched.access_token"),
    "token_non_ascii": ({"access_token": "é"}, "vouched.access_token"),
    "no_install": ({"install_id": ""}, "vouched.install_id"),
    "install_non_ascii": ({"install_id": "é"}, "vouched.install_id"),
    "install_huge": ({"install_id": "9" * 100_000}, "vouched.install_id"),
    "company_with_a_newline": ({"company_id": "1\n"}, "vouched.company_id"),
    "no_time": ({"expires_in": duration_pb2.Duration()}, "vouched.expires_in"),
    "negative": ({"expires_in": duration_pb2.Duration(seconds=-1)}, "vouched.expires_in"),
    "ten_thousand_years": (
        {"expires_in": duration_pb2.Duration(seconds=315_576_000_000)},
        "vouched.expires_in",
    ),
    "overflow": ({"expires_in": duration_pb2.Duration(seconds=2**63 - 1)}, "vouched.expires_in"),
}


@pytest.mark.parametrize("bad", BAD_FIELDS)
async def test_bad_vouched_field_is_named_and_changes_nothing(
    trusting: ServedBroker, install_id: str, bad: str
) -> None:
    """A caller's own parsing may be wrong; also while Envoy is down, when the token would be kept."""
    fields, field = BAD_FIELDS[bad]
    await trusting.envoy.behave(status=503)
    before = trusting.rows(), await trusting.envoy.ledger()
    call = vouch(trusting, **({"install_id": install_id, "access_token": "t"} | fields))
    assert_invalid(await refusal_of(call), field)
    assert (trusting.rows(), await trusting.envoy.ledger()) == before
    await trusting.envoy.behave()
