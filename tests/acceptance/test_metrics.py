"""P8: what Prometheus reads of a broker is what the broker did, on a good day and on a bad one."""

import json
import socket
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import httpx
import pytest

from broker.telemetry import metrics
from broker.telemetry.kinds import Metric
from broker.telemetry.metrics import CATALOGUE
from tests.acceptance.metered import Metered, Page, metered
from tests.acceptance.scene import CALLERS
from tests.acceptance.traced import get_token
from tests.eventually import eventually
from tests.integration.served_broker import CALL_SECONDS, settings_for
from tests.integration.served_envoy import APP
from tests.otlp.callers_trace import NOT_SAMPLED, CallersTrace
from tests.processes import TOKEN_BROKER, run

GET_TOKEN: Final = {"rpc_system_name": "grpc", "rpc_method": "tokenbroker.v1.TokenBroker/GetToken"}
CALLS: Final = "rpc_server_call_duration_seconds_count"
REFRESHED: Final = {"plugin_id": APP.plugin_id, "purpose": "due", "ending": "refreshed"}
CIRCUIT: Final = "tokenbroker_provider_circuit_open"
# What the scenes here don't bring about, each with its reason.
UNSEEN: Final = frozenset({metrics.COLLISIONS})  # Two sweeps must meet at one install, which is luck.


def _shown(page: Page) -> set[Metric]:
    """The metrics of which there is a series."""
    names = {sample.name for sample in page.samples}
    return {metric for metric in CATALOGUE.values() if metric.series <= names}


def _holds_the_catalogue_alone(page: Page) -> None:
    labels = {
        name: {label.replace(".", "_") for label in metric.labels}
        for metric in CATALOGUE.values()
        for name in metric.series
    }
    for sample in page.samples:
        if sample.name != "target_info":
            assert set(sample.labels) - {"le"} == labels[sample.name], sample


def _tells_no_secret(page: Page, seen: Metered) -> None:
    """An install's id as a label's value; digits of it may stand in a number."""
    values = {value for sample in page.samples for value in sample.labels.values()}
    assert values.isdisjoint({*seen.install_ids, "no-such-install"})
    assert seen.secrets
    assert [secret for secret in seen.secrets if secret in page.text] == []


async def test_a_good_day_is_told_as_it_was(database: str, temporary: Path) -> None:
    """Each of the numbers that a dashboard shows is of something that happened, and of nothing else."""
    async with metered(database, temporary) as broker:
        await broker.is_busy()
        page = await broker.page()
        # Three of one in the database, the crowd of one expired, one whose refresh was another's.
        assert page.total(CALLS, **GET_TOKEN, rpc_response_status_code="OK") == 3 + CALLERS + 1
        assert page.total(CALLS, **GET_TOKEN, rpc_response_status_code="NOT_FOUND") == 1
        handed_out = "tokenbroker_token_handed_out_total"
        assert page.total(handed_out, source="store") == 1
        assert page.total(handed_out, source="memory") >= 2
        assert page.total(handed_out) == 3 + CALLERS + 1
        assert page.total("tokenbroker_attempts_total", **REFRESHED) == 1
        assert page.total("tokenbroker_waiters_coalesced_total") == CALLERS - 1
        assert page.total("tokenbroker_claim_wait_duration_seconds_count") == 1
        calls = "tokenbroker_provider_call_duration_seconds_count"
        assert page.total(calls, grant="refresh_token", outcome="issued") == 1
        assert page.total(calls, grant="plugin_install", outcome="issued") == 1
        # P1: one spend.
        presentations = "tokenbroker_generation_presentations"
        assert page.total(f"{presentations}_bucket", le="1.0") == page.total(f"{presentations}_count") == 1
        assert page.total("tokenbroker_webhooks_total", outcome="accepted") == 1
        assert page.total("tokenbroker_webhooks_total", outcome="SignatureRefused") == 1
        assert page.total("tokenbroker_ready") == 1
        assert page.total("db_client_connection_max") == 12
        assert page.total("tokenbroker_calls_in_flight") == 0
        assert page.all_of(CIRCUIT) == []
        _holds_the_catalogue_alone(page)
        _tells_no_secret(page, broker)


async def test_the_census_is_told(database: str, temporary: Path) -> None:
    """How many installs are well, and how many tokens end soon, is the first thing that is asked at night."""
    async with metered(database, temporary) as broker:

        async def is_there() -> bool:
            return bool((await broker.page()).all_of("tokenbroker_installs"))

        await eventually(is_there)
        page = await broker.page()
        (counted,) = page.all_of("tokenbroker_installs")
        assert counted.labels == {"plugin_id": APP.plugin_id, "state": "active", "failing": "false"}
        assert counted.value == 1
        (expiring,) = page.all_of("tokenbroker_installs_expiring")
        assert (expiring.labels["within"], expiring.value) == ("1d", 1)


async def test_exemplars_lead_to_sampled_traces_alone(database: str, temporary: Path) -> None:
    """From a slow bucket to its trace in one step; a trace that nobody kept is no example."""
    kept, unkept = CallersTrace(), CallersTrace(flags=NOT_SAMPLED)
    async with metered(database, temporary) as broker:
        expired = await broker.installed(expired=True)
        await get_token(broker.replica, expired, kept)
        await get_token(broker.replica, expired, unkept)
        page = await broker.page()
        examples = {
            sample.name: sample.exemplar.labels["trace_id"] for sample in page.samples if sample.exemplar
        }
        assert examples["rpc_server_call_duration_seconds_bucket"] == kept.trace_id
        assert examples["tokenbroker_provider_call_duration_seconds_bucket"] == kept.trace_id
        assert unkept.trace_id not in page.text
        # And there it is.
        await broker.received.span("tokenbroker.v1.TokenBroker/GetToken", kept.trace_id)


async def test_what_a_client_makes_up_is_no_label(database: str, temporary: Path) -> None:
    """Whoever reaches the port could else fill Prometheus with methods that there are not."""
    made_up = "/made.up/Method"
    async with metered(database, temporary) as broker:
        call: Any = broker.replica.channel.unary_unary(made_up)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", timeout=CALL_SECONDS)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "made.up" not in (await broker.page()).text


async def test_an_outage_shows_and_its_end_does(database: str, temporary: Path) -> None:
    """Is it Envoy or us? The circuit, the endings and what callers were told say so; and all that there is, shows."""
    async with metered(database, temporary) as broker:
        await broker.is_busy()
        shown = _shown(await broker.page())
        async with broker.outage() as install_id:
            # The second is told without a call to Envoy.
            assert await broker.fails(install_id) is grpc.StatusCode.UNAVAILABLE
            assert await broker.fails(install_id) is grpc.StatusCode.UNAVAILABLE
            page = await broker.page()
            of_app = {"plugin_id": APP.plugin_id}
            assert [each.labels for each in page.all_of(CIRCUIT)] == [{**of_app, "kind": "status_500"}]
            assert page.total(CIRCUIT) == 1
            assert page.total(CALLS, **GET_TOKEN, rpc_response_status_code="UNAVAILABLE") == 2
            assert page.total("tokenbroker_attempts_total", **of_app, ending="status_500") == 1
            assert page.total("tokenbroker_attempts_in_doubt_total", **of_app) == 1
            outcome = page.total("tokenbroker_provider_call_duration_seconds_count", outcome="status_500")
            assert outcome == 1
            _tells_no_secret(page, broker)
            _holds_the_catalogue_alone(page)
            shown |= _shown(page)

        async def serves() -> bool:
            return await broker.fails(install_id) is grpc.StatusCode.OK

        await eventually(serves)
        page = await broker.page()
        assert page.all_of(CIRCUIT) == []
        assert page.total("tokenbroker_attempts_total", ending="minted_in_doubt") == 1
        # P1, after all of that: no refresh token was presented twice.
        presentations = "tokenbroker_generation_presentations"
        assert page.total(f"{presentations}_bucket", le="1.0") == page.total(f"{presentations}_count")
        shown |= _shown(page)
        assert {metric.name for metric in set(CATALOGUE.values()) - shown - UNSEEN} == set()


async def test_a_call_that_envoy_never_answers_is_a_timeout(database: str, temporary: Path) -> None:
    """Not a 500, and not our fault: which of them it is decides what the operator does next."""
    async with metered(database, temporary) as broker:
        install_id = await broker.installed(expired=True)
        await broker.scene.envoy.behave(install_id, held="after_processing")
        assert await broker.fails(install_id) is grpc.StatusCode.UNAVAILABLE
        page = await broker.page()
        assert page.total("tokenbroker_attempts_total", ending="timeout") == 1
        assert page.total("tokenbroker_attempts_in_doubt_total") == 1
        buckets = "tokenbroker_provider_call_duration_seconds_bucket"
        assert page.total(buckets, outcome="timeout", le="1.0") == 0
        assert page.total(buckets, outcome="timeout", le="+Inf") == 1
        # One install's fault is not the app's.
        assert page.all_of(CIRCUIT) == []
        await broker.scene.envoy.release()


async def test_the_operations_port_lives_as_long_as_the_broker(database: str, temporary: Path) -> None:
    """Plain text for who asks so; who drains is not ready, but can be read until the end; then nothing listens."""
    async with metered(database, temporary) as broker:
        page = await broker.page("text/plain")
        assert page.content_type.startswith("text/plain; version=0.0.4")
        assert page.total("tokenbroker_ready") == 1
        async with httpx.AsyncClient(base_url=broker.operations, trust_env=False) as http:
            assert (await http.get("/readyz")).status_code == httpx.codes.OK
            assert (await http.get("/")).status_code == httpx.codes.NOT_FOUND
        broker.replica.terminate()
        assert (await broker.replica.ended()).code == 0
        with pytest.raises(httpx.ConnectError):
            await broker.page()


async def test_a_taken_operations_port_is_refused_in_words(database: str) -> None:
    """A broker that cannot be watched must say so at once, and name the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environ = settings_for(database, "http://127.0.0.1:1", OPERATIONS_ADDRESS=address, LOG_FORMAT="json")
        done = await run(TOKEN_BROKER, "serve", env=environ)
    assert done.code != 0
    assert "Traceback" not in done.err
    last = done.err.strip().splitlines()[-1]
    assert address in last
    assert "TOKEN_BROKER_OPERATIONS_ADDRESS" in last
    assert "broker.started" not in [
        json.loads(line).get("event") for line in done.err.splitlines() if line[:1] == "{"
    ]
