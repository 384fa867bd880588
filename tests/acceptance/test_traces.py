"""Traces, as a real OTLP receiver gets them from real replicas: one token's story, from its caller to Envoy and back."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Final

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.telemetry import metrics, spans
from tests.acceptance.scene import PAST_EXPIRY
from tests.acceptance.traced import QUERY, SERVED, WEBHOOK, TracedScene, get_token, traced_scene
from tests.integration.served_envoy import APP
from tests.otlp.callers_trace import NOT_SAMPLED, CallersTrace
from tests.otlp.received import Received, ReceivedSpan
from tests.otlp.receivers import receiving_by_grpc
from tokenbroker.v1.token_broker_pb2 import GetTokenResponse

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLERS: Final = 8
UNKNOWN_INSTALL: Final = "1"
OF_TRACES: Final = frozenset({"traceparent", "tracestate", "baggage"})
BAGGAGE: Final = "who=somebody-s-name"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def received() -> AsyncIterator[Received]:
    """What all replicas of this file send."""
    async with receiving_by_grpc() as receiver:
        yield receiver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(
    postgres: EmbeddedPostgres, migrated_template: str, received: Received
) -> AsyncIterator[TracedScene]:
    """Two replicas."""
    async with traced_scene(postgres, migrated_template, received, 2) as set_up:
        yield set_up


async def test_server_span_is_the_child_of_its_caller_s(traced: TracedScene, received: Received) -> None:
    """The caller's own trace shows what the broker did with its call, in the words that every tool knows."""
    install_id, trace = await traced.scene.installed(), CallersTrace()
    await get_token(traced.scene.replicas[0], install_id, trace)
    served = await received.span(SERVED, trace.trace_id)
    assert served.parent == trace.context
    assert served.proto.kind == Span.SPAN_KIND_SERVER
    assert served.proto.status.code == Status.STATUS_CODE_UNSET
    assert served.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": SERVED,
        "rpc.response.status_code": "OK",
    }


@pytest.mark.parametrize(
    ("broken", "code", "status"),
    [
        (False, grpc.StatusCode.NOT_FOUND, Status.STATUS_CODE_UNSET),
        (True, grpc.StatusCode.UNAVAILABLE, Status.STATUS_CODE_ERROR),
    ],
)
async def test_span_is_an_error_only_where_the_broker_failed(
    traced: TracedScene, received: Received, *, broken: bool, code: grpc.StatusCode, status: int
) -> None:
    """An alert on errors must not ring for a caller who asks for what does not exist."""
    install_id, trace = UNKNOWN_INSTALL, CallersTrace()
    if broken:
        install_id = await traced.expired()
        await traced.scene.envoy.behave(install_id, status=500, remaining=1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await get_token(traced.scene.replicas[0], install_id, trace)
    served = await received.span(SERVED, trace.trace_id)
    assert refused.value.code() is code
    assert served.attributes["rpc.response.status_code"] == code.name
    assert served.attributes["error.type"] == code.name
    assert served.proto.status.code == status


async def test_webhook_s_refresh_and_call_are_in_its_sender_s_trace(
    traced: TracedScene, received: Received
) -> None:
    """Whoever relays Envoy's webhooks sees why the person who installs waits."""
    trace = CallersTrace()
    await traced.post_webhook(traced.scene.replicas[0], trace)
    served = await received.span(WEBHOOK, trace.trace_id)
    assert served.parent == trace.context
    assert served.proto.kind == Span.SPAN_KIND_SERVER
    assert served.attributes == {
        "http.request.method": "POST",
        "http.route": "/envoy/webhooks/{plugin_id}",
        "http.response.status_code": "200",
    }
    wait = await received.span(spans.WAIT, trace.trace_id, child_of=served.context)
    refresh = await received.span(spans.REFRESH, trace.trace_id, child_of=wait.context)
    assert refresh.attributes[spans.PURPOSE] == "exchange"
    call = await received.span(spans.CALL, trace.trace_id, child_of=refresh.context)
    assert call.attributes[spans.GRANT] == "plugin_install"


async def test_expired_token_s_trace_shows_every_step_to_envoy_and_back(
    traced: TracedScene, received: Received
) -> None:
    """At night: what of the seconds that a caller waited was our turn, the database, or Envoy."""
    install_id, trace = await traced.expired(), CallersTrace()
    await get_token(traced.scene.replicas[0], install_id, trace)
    served = await received.span(SERVED, trace.trace_id)
    for looked in (spans.CACHE, spans.LOOK_UP, spans.POLICY):
        await received.span(looked, trace.trace_id, child_of=served.context)
    wait = await received.span(spans.WAIT, trace.trace_id, child_of=served.context)
    refresh = await received.span(spans.REFRESH, trace.trace_id, child_of=wait.context)
    assert (refresh.attributes[spans.INSTALL_ID], refresh.attributes[spans.ENDING]) == (
        install_id,
        "refreshed",
    )
    steps = [
        await received.span(step, trace.trace_id, child_of=refresh.context)
        for step in (spans.TURN, spans.CLAIM, spans.CALL, spans.KEEP)
    ]
    assert _is_in_order(steps)
    call = steps[2]
    assert call.proto.kind == Span.SPAN_KIND_CLIENT
    assert (call.attributes[spans.GRANT], call.attributes[spans.OUTCOME]) == ("refresh_token", "issued")
    assert wait.links == [refresh.context]


async def test_every_waiter_links_to_the_one_refresh_that_served_it(
    traced: TracedScene, received: Received
) -> None:
    """Only one of the traces has the call to Envoy in it; the others must lead there."""
    install_id, traces = await traced.expired(), [CallersTrace() for _ in range(CALLERS)]
    replica = traced.scene.replicas[0]
    await traced.scene.envoy.behave(install_id, held="before_processing", remaining=1)
    calls = [asyncio.create_task(get_token(replica, install_id, trace)) for trace in traces]
    await traced.scene.envoy.ledger(install_id=install_id, await_requests=2)
    await replica.all_before_are_read(install_id)
    await traced.scene.envoy.release()
    await asyncio.gather(*calls)
    waits = [await received.span(spans.WAIT, trace.trace_id) for trace in traces]
    (refresh,) = _of_install(received, spans.REFRESH, install_id)
    assert [wait.links for wait in waits] == [[refresh.context]] * CALLERS


async def test_waiter_links_to_the_refresh_of_the_replica_that_called_envoy(
    traced: TracedScene, received: Received
) -> None:
    """Its own replica has nothing to show but a wait: the other's trace, in another process, is where to look."""
    install_id, first, second = await traced.expired(), CallersTrace(), CallersTrace()
    fetched, waited = await _one_calls_and_the_other_waits(traced, received, install_id, first, second)
    assert (await fetched).generation == (await waited).generation
    refresh = await received.span(spans.REFRESH, first.trace_id)
    wait = await received.span(spans.WAIT, second.trace_id)
    own = await received.span(spans.REFRESH, second.trace_id, child_of=wait.context)
    await received.span(spans.WAIT_FOR_CLAIM, second.trace_id, child_of=own.context)
    assert wait.links == [refresh.context]
    assert own.resource["service.instance.id"] != refresh.resource["service.instance.id"]


async def test_waiter_whom_nobody_served_links_to_its_own_replica_s_refresh(
    traced: TracedScene, received: Received
) -> None:
    """A link must not name a refresh that brought an earlier pair."""
    install_id, first, second = await traced.expired(), CallersTrace(), CallersTrace()
    fetched, waited = await _one_calls_and_the_other_waits(
        traced, received, install_id, first, second, status=500
    )
    for call in (fetched, waited):
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    for trace in (first, second):
        wait = await received.span(spans.WAIT, trace.trace_id)
        refresh = await received.span(spans.REFRESH, trace.trace_id, child_of=wait.context)
        assert wait.links == [refresh.context]
        assert refresh.proto.status.code == Status.STATUS_CODE_ERROR


async def test_record_and_log_lines_name_the_trace(traced: TracedScene, received: Received) -> None:
    """From a line to the trace, and from the trace to who got the token."""
    install_id, trace = await traced.expired(), CallersTrace()
    replica = traced.scene.replicas[1]
    await get_token(replica, install_id, trace)
    refresh = await received.span(spans.REFRESH, trace.trace_id)
    record = json.loads(await replica.process.out.line(f'"trace_id":"{trace.trace_id}"'))
    line = json.loads(await replica.process.err.line(trace.trace_id))
    assert (record["install_id"], record["outcome"]) == (install_id, "OK")
    assert line["event"] == "refresh.attempt_ended"
    assert (line["trace_id"], line["span_id"]) == refresh.context


async def test_caller_who_is_not_sampled_leaves_no_span(traced: TracedScene, received: Received) -> None:
    """Who decides what a trace may cost is whoever begins it. The record names it all the same."""
    install_id, unsampled, sampled = await traced.expired(), CallersTrace(flags=NOT_SAMPLED), CallersTrace()
    replica = traced.scene.replicas[0]
    await get_token(replica, install_id, unsampled)
    await get_token(replica, install_id, sampled)
    await received.span(SERVED, sampled.trace_id)  # A process sends its spans in the order of their ends.
    assert received.of_trace(unsampled.trace_id) == []
    await replica.process.out.line(f'"trace_id":"{unsampled.trace_id}"')


async def test_envoy_hears_nothing_of_traces_unless_a_setting_says_so(
    traced: TracedScene, received: Received
) -> None:
    """What is ours stays ours: Envoy documents no such header. And baggage, which is the caller's, never leaves."""
    told = {"tracestate": "vendor=opaque", "baggage": BAGGAGE}
    traced.front.told.clear()
    await traced.post_webhook(traced.scene.replicas[0], CallersTrace(), **told)
    (silent,) = map(_headers, traced.front.told)
    async with traced.one_more(received, TOKEN_BROKER_PROPAGATE_TRACE_TO_ENVOY="true") as propagating:
        trace = CallersTrace()
        await traced.post_webhook(propagating, trace, **told)
        call = await received.span(spans.CALL, trace.trace_id)
    assert not OF_TRACES & silent.keys()
    spoken_of = {"traceparent": f"00-{'-'.join(call.context)}-01", "tracestate": "vendor=opaque"}
    told_of_traces = [
        {name: told[name] for name in OF_TRACES & told.keys()} for told in map(_headers, traced.front.told)
    ]
    assert spoken_of in told_of_traces


async def test_metrics_of_the_catalogue_come_by_otlp(traced: TracedScene, received: Received) -> None:
    """One table says what there is, by whichever way it is read; those that need a fault are not there without one."""
    install_id = await traced.expired()
    await get_token(traced.scene.replicas[0], install_id, CallersTrace())
    named = (
        metrics.CALL,
        metrics.ATTEMPTS,
        metrics.PROVIDER_CALL,
        metrics.HANDED_OUT,
        metrics.POOL,
        metrics.READY,
    )
    await received.all_metrics(metric.name for metric in named)
    assert received.metrics <= metrics.CATALOGUE.keys()


async def test_nothing_that_was_sent_holds_a_secret_or_a_query(
    traced: TracedScene, received: Received
) -> None:
    """A collector keeps what it gets, and many may read there."""
    install_id, trace = await traced.scene.installed(), CallersTrace()
    replies = [await get_token(traced.scene.replicas[0], install_id, trace)]
    await traced.scene.time_passes(PAST_EXPIRY, install_id)
    replies.append(await get_token(traced.scene.replicas[1], install_id, trace))
    await traced.post_webhook(traced.scene.replicas[0], trace)
    await received.span(WEBHOOK, trace.trace_id)
    await received.all_of(SERVED, trace.trace_id, len(replies))
    words = [APP.client_secret.reveal(), QUERY, BAGGAGE, *(reply.access_token for reply in replies)]
    everything = b"".join((*received.exports, *received.told))
    assert install_id.encode() in everything
    assert [word for word in words if word.encode() in everything] == []


async def _one_calls_and_the_other_waits(
    traced: TracedScene,
    received: Received,
    install_id: str,
    first: CallersTrace,
    second: CallersTrace,
    **behaviour: object,
) -> tuple["asyncio.Task[GetTokenResponse]", "asyncio.Task[GetTokenResponse]"]:
    """The first replica calls Envoy; meanwhile a caller of the second one waits for its claim's end."""
    one, other = traced.scene.replicas
    await traced.scene.envoy.behave(install_id, held="before_processing", remaining=1, **behaviour)
    fetched = asyncio.create_task(get_token(one, install_id, first))
    await traced.scene.envoy.ledger(install_id=install_id, await_requests=2)
    waited = asyncio.create_task(get_token(other, install_id, second))
    await received.span(spans.CLAIM, second.trace_id)
    await traced.scene.envoy.release()
    return fetched, waited


def _of_install(received: Received, name: str, install_id: str) -> list[ReceivedSpan]:
    return [
        span
        for span in received.spans
        if span.name == name and span.attributes.get(spans.INSTALL_ID) == install_id
    ]


def _is_in_order(steps: list[ReceivedSpan]) -> bool:
    """Whether each began when the one before had ended."""
    pairs = itertools.pairwise(steps)
    return all(step.proto.end_time_unix_nano <= later.proto.start_time_unix_nano for step, later in pairs)


def _headers(request: bytes) -> dict[str, str]:
    head, _, _ = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
