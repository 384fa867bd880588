"""/healthz and /readyz: whether the process lives, and whether it can serve."""

import httpx

from broker import offline
from tests.integration.health_calls import NOT_SERVING, becomes_serving, health
from tests.integration.served_broker import ServedBroker, served_broker
from tests.integration.served_envoy import ServedEnvoy


async def test_ready_broker_says_so(broker: ServedBroker) -> None:
    """And nothing else: no version, no host."""
    for path, text in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        answer = await broker.http.get(path)
        assert (answer.status_code, answer.text) == (200, text)
        assert "server" not in answer.headers


async def test_broker_whose_database_is_away_lives_and_is_not_ready(
    simulated_envoy: ServedEnvoy,
) -> None:
    """An orchestrator must not kill it, nor send it calls."""
    nowhere = "postgresql://nobody:do-not-show-me@127.0.0.1:1/nothing"
    async with served_broker(
        simulated_envoy, nowhere, ready=False, DATABASE_SECONDS="0.2", DRAIN_SECONDS="1"
    ) as broker:
        assert (await broker.http.get("/healthz")).status_code == httpx.codes.OK
        answer = await broker.http.get("/readyz")
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert answer.text.startswith("not ready: ")
        assert "do-not-show-me" not in answer.text


async def test_broker_is_ready_as_soon_as_its_schema_is_there(
    simulated_envoy: ServedEnvoy, empty_database: str
) -> None:
    """The commonest first start: nobody has run `token-broker migrate`."""
    async with served_broker(simulated_envoy, empty_database, ready=False) as broker:
        assert await health(broker.channel) == NOT_SERVING
        offline.migrate(empty_database)
        await becomes_serving(broker.channel)
        ready = await broker.http.get("/readyz")
        assert (ready.status_code, ready.text) == (200, "ready\n")
