"""POST /envoy/webhooks: what Envoy sends, and the answers that Envoy understands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from psycopg import sql

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.integration.refusals import refusal_of
from tests.integration.served_broker import ServedBroker, served_broker
from tests.integration.served_envoy import ServedEnvoy, served_envoy
from tokenbroker.v1 import installs_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("path", ["", "4242"])
async def test_submitted_payload_is_echoed(shared_broker: ServedBroker, install_id: str, path: str) -> None:
    """Envoy puts the answer in the place of what the installer submitted: anything else would lose it."""
    payload = {"site": "HQ", "notify": True, "note": "Zoë 🛎", "nested": {"list": [1, 2.5, None]}}
    delivered = await shared_broker.install(install_id, kind="validation", payload=payload)
    assert (delivered["status"], delivered["body"]) == (200, payload)
    body = delivered["sent"]["body"].encode()
    answer = await shared_broker.post(body, shared_broker.signature(body), path)
    assert (answer.status_code, answer.json()) == (200, payload)
    assert answer.headers["content-type"] == "application/json"


async def test_config_at_envoy_is_what_was_submitted_and_holds_no_token(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """It can be read in Envoy's dashboard."""
    await shared_broker.install(install_id, kind="validation", payload={"site": "HQ"})
    install = (await shared_broker.envoy.http.get(f"/_simulator/installs/{install_id}")).json()["install"]
    assert install["config"] == {"site": "HQ"}


async def test_answer_is_an_empty_object_when_nothing_was_submitted(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """A 2xx must be a JSON object."""
    delivered = await shared_broker.install(install_id, kind="route")
    assert (delivered["status"], delivered["body"]) == (200, {})


@pytest.mark.parametrize("event", ["plugin_uninstalled", "entry_sign_in"])
async def test_answer_to_an_event_is_an_empty_object(shared_broker: ServedBroker, event: str) -> None:
    """Nobody reads it; but anything but a 2xx would come again, five times."""
    body = json.dumps({"meta": {"event": event, "install_id": 1}, "payload": {"id": 7}}).encode()
    answer = await shared_broker.post(body, shared_broker.signature(body))
    assert (answer.status_code, answer.json()) == (200, {})


async def test_token_is_there_when_the_webhook_is_answered(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Also in the answer's headers and body nothing of it is seen."""
    await shared_broker.envoy.install(install_id)
    delivered = await shared_broker.install(install_id)
    token = await shared_broker.get_token(install_id)
    assert token.access_token not in json.dumps(delivered["body"])
    assert (await shared_broker.get_install(install_id)).state == installs_pb2.INSTALL_STATE_ACTIVE


async def test_f24_webhook_sent_again_after_the_uninstall_does_not_revive(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Envoy is asked, and Envoy says no: an old webhook is no install."""
    delivered = await shared_broker.install(install_id)
    body = delivered["sent"]["body"].encode()
    await shared_broker.envoy.http.post(f"/_simulator/installs/{install_id}/uninstall", json={})
    answer = await shared_broker.post(body, shared_broker.signature(body))
    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert (await refusal_of(shared_broker.get_token(install_id))).reason == "INSTALL_NOT_FOUND"


async def test_refused_exchange_is_shown_to_the_installer(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """422: nobody at the app can mend it, and Envoy need not send it again."""
    await shared_broker.envoy.behave(install_id, refuse="grant")
    delivered = await shared_broker.install(install_id)
    assert delivered["status"] == httpx.codes.UNPROCESSABLE_ENTITY
    assert list(delivered["body"]) == ["message"]
    refusal = await refusal_of(shared_broker.get_token(install_id))
    assert refusal.reason == "REAUTHORIZATION_REQUIRED"


async def test_f08_refused_client_is_our_fault_and_not_the_installers(
    shared_envoy: ServedEnvoy, database: str, install_id: str
) -> None:
    """503: the operator mends the secret, and Envoy sends the webhook again."""
    async with served_broker(shared_envoy, database) as broker:
        await broker.envoy.behave(install_id, refuse="client")
        delivered = await broker.install(install_id)
        assert delivered["status"] == httpx.codes.SERVICE_UNAVAILABLE
        assert "secret" not in delivered["body"]["message"]
        await broker.envoy.behave(install_id)
        sent = await broker.envoy.http.post(f"/_simulator/installs/{install_id}/webhook", json={})
        assert sent.json()["webhook"]["status"] == 200
        assert (await broker.get_token(install_id)).generation >= 1


async def test_envoy_that_is_down_costs_no_install(install_id: str, shared_database: str) -> None:
    """Not a 503 but no listener at all: the webhook's own token serves, and the next webhook completes it."""
    async with served_envoy() as envoy:
        sent = (await envoy.install(install_id))["webhook"]["sent"]
        body = sent["body"].encode()
        async with served_broker(envoy, shared_database, ENVOY_TOKEN_URL="http://127.0.0.1:1/") as cut_off:
            answer = await cut_off.post(body, cut_off.signature(body))
            assert answer.status_code == 200
            assert (await cut_off.get_token(install_id)).access_token in sent["body"]
            install = await cut_off.get_install(install_id)
            assert (install.state, install.in_doubt) == (installs_pb2.INSTALL_STATE_PROVISIONAL, False)
            assert install.last_failure.kind == "connect_failed"
        async with served_broker(envoy, shared_database) as recovered:
            assert (await recovered.post(body, recovered.signature(body))).status_code == 200
            install = await recovered.get_install(install_id)
            assert install.state == installs_pb2.INSTALL_STATE_ACTIVE


async def test_failing_envoy_and_a_newer_token_known_is_503(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """The webhook brought nothing that we could keep: let Envoy send it again."""
    await shared_broker.installed(install_id)
    await shared_broker.envoy.behave(install_id, status=503)
    delivered = await shared_broker.install(install_id)
    assert delivered["status"] == httpx.codes.SERVICE_UNAVAILABLE
    assert (await shared_broker.get_token(install_id)).generation == 1


@contextmanager
def away(postgres: EmbeddedPostgres, database: str) -> Iterator[None]:
    """The database lets nobody in, and has thrown out who was there."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    close = "ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:

        def allow(*, allowed: bool) -> None:
            connection.execute(
                sql.SQL(close).format(name=sql.Identifier(str(name)), allowed=sql.Literal(allowed))
            )

        allow(allowed=False)
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            allow(allowed=True)


async def test_database_that_is_away_is_503_and_comes_back(
    shared_envoy: ServedEnvoy, postgres: EmbeddedPostgres, shared_database: str, install_id: str
) -> None:
    """Envoy sends again later; callers read STORE_UNAVAILABLE, but for those whose token is remembered."""
    async with served_broker(shared_envoy, shared_database, DATABASE_SECONDS="0.5") as broker:
        await broker.installed("remembered")
        await broker.get_token("remembered")
        with away(postgres, shared_database):
            answer = await broker.install(install_id)
            assert answer["status"] == httpx.codes.SERVICE_UNAVAILABLE
            assert list(answer["body"]) == ["message"]
            body = answer["sent"]["body"].encode()
            again = await broker.post(body, broker.signature(body))
            assert int(again.headers["retry-after"]) >= 1
            refusal = await refusal_of(broker.get_token(install_id))
            assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
            assert refusal.retry_after is not None
            assert (await broker.get_token("remembered")).generation == 1
        sent = await broker.envoy.http.post(
            f"/_simulator/installs/{install_id}/webhook", json={"retries": True, "retry_interval_seconds": 1}
        )
        assert sent.json()["webhook"]["status"] == 200
        assert (await broker.get_token(install_id)).generation == 1
