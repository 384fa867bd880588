"""WatchTokens at the door of a whole broker, and of two."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from broker.service import watch as watch_module
from broker.service import watch_tokens
from tests.eventually import eventually
from tests.integration.refusals import read_refusal
from tests.integration.served_broker import ServedBroker, served_broker
from tests.integration.served_envoy import ServedEnvoy
from tests.integration.watchers import watcher
from tokenbroker.v1 import token_broker_pb2 as pb
from tokenbroker.v1.error_reason_pb2 import ErrorReason

WITHIN_SECONDS = 1.0


async def test_subscriber_gets_the_token_that_get_token_gives(broker: ServedBroker) -> None:
    """One that knows nothing yet is told what there is."""
    await broker.installed()
    async with watcher(broker.channel, i1000000=0) as watching_one:
        told = await watching_one.token()
    assert told.access_token == (await broker.get_token()).access_token
    assert told.generation == 1
    assert told.expires_in.seconds > 0


async def test_new_generation_of_another_replica_is_pushed_within_a_second(broker: ServedBroker) -> None:
    """Whichever replica stored it: callers need not ask, and need not know which."""
    await broker.installed()
    async with broker.replica() as other, watcher(other.channel, i1000000=1) as watching_one:
        await watching_one.read()  # the first heartbeat: the stream stands
        await eventually(lambda: _watches(other, 1))
        loop = asyncio.get_running_loop()
        for generation in (2, 3):
            await broker.refresh()
            stored_at = loop.time()
            assert (await watching_one.token()).generation == generation
            assert loop.time() - stored_at < WITHIN_SECONDS


async def _watches(broker: ServedBroker, subscriptions: int) -> bool:
    return broker.broker.use_cases.watch_tokens.subscriptions == subscriptions


async def test_known_generation_is_not_sent_again(broker: ServedBroker) -> None:
    """A stream that is opened again costs no token of those that the caller has."""
    await broker.installed()
    await broker.refresh()
    async with watcher(broker.channel, i1000000=2) as knows, watcher(broker.channel, i1000000=1) as behind:
        assert (await behind.token()).generation == 2
        await broker.refresh()
        assert (await knows.token()).generation == 3


async def test_uninstalled_app_is_told_and_watched_no_more(broker: ServedBroker) -> None:
    """The token in the caller's memory must not be used, and no later one is sent unasked."""
    await broker.installed()
    async with watcher(broker.channel, i1000000=1) as watching_one:
        await watching_one.read()
        await broker.envoy.http.post("/_simulator/installs/1000000/uninstall", json={})
        told = await watching_one.refusal()
        assert (told.plugin_id, told.install_id) == ("4242", "1000000")
        assert told.failure.reason == ErrorReason.ERROR_REASON_INSTALL_NOT_FOUND
        await eventually(lambda: _watches(broker, 0))
        await broker.installed()
        await watching_one.subscribe("1000000")
        assert (await watching_one.token()).generation > 1


async def test_rejected_token_is_told_and_the_next_follows(broker: ServedBroker) -> None:
    """One caller's 401 spares the others theirs."""
    await broker.installed()
    async with watcher(broker.channel, i1000000=1) as watching_one:
        await watching_one.read()
        await broker.tokens.ReportRejectedToken(
            pb.ReportRejectedTokenRequest(install_id="1000000", generation=1), timeout=30
        )
        told = await watching_one.event()
        if told.HasField("unavailable"):
            assert told.unavailable.failure.reason == ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE
            told = await watching_one.event()
        assert told.token.generation == 2


async def test_unknown_installs_and_bad_requests_are_events(broker: ServedBroker) -> None:
    """One mistake must not cost the caller what else it watches."""
    await broker.installed()
    async with watcher(broker.channel, i1000000=0, i77=0) as watching_one:
        assert (await watching_one.token()).install_id == "1000000"
        assert (await watching_one.refusal()).install_id == "77"
        await watching_one.subscribe("no id")
        bad = await watching_one.refusal()
        assert (bad.install_id, bad.failure.field) == ("", "install_id")
        await watching_one.subscribe("1000000", known_generation=-1)
        assert (await watching_one.refusal()).failure.field == "known_generation"
        await watching_one.unsubscribe("77")
        await broker.refresh()
        assert (await watching_one.token()).generation == 2


async def test_request_that_changes_nothing_ends_the_stream(broker: ServedBroker) -> None:
    """A caller that speaks another protocol should learn it at once."""
    async with watcher(broker.channel) as watching_one:
        await watching_one.send(pb.WatchTokensRequest())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await watching_one.event()
    refusal = read_refusal(refused.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_message_that_is_none_ends_the_stream(broker: ServedBroker) -> None:
    """Rubbish is the caller's fault, and no traceback of ours."""
    call: Any = broker.channel.stream_stream("/tokenbroker.v1.TokenBroker/WatchTokens")()
    await call.write(b"\xff\xff\xff")
    assert await call.read() is not grpc.aio.EOF  # the first heartbeat
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert read_refusal(refused.value).reason == "INVALID_FIELD"


async def test_silent_stream_has_heartbeats(broker: ServedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller can tell a quiet stream from a dead one."""
    monkeypatch.setattr(watch_module, "HEARTBEAT", watch_module.HEARTBEAT / 3000)
    async with watcher(broker.channel) as watching_one:
        for _ in range(3):
            response = await watching_one.read()
            assert response.heartbeat.next_within.seconds == 30


async def test_stream_ends_by_itself_after_a_while(
    broker: ServedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller comes back with credentials that are valid then; that is no failure."""
    monkeypatch.setattr(watch_tokens, "LONGEST_WATCH", watch_module.HEARTBEAT / 3000)
    async with watcher(broker.channel) as watching_one:
        with pytest.raises(EOFError):
            await watching_one.event()
    await eventually(lambda: _watches(broker, 0))


async def test_stopping_broker_ends_its_streams_at_once(simulated_envoy: ServedEnvoy, database: str) -> None:
    """Watchers go to another replica, and the drain does not wait for them."""
    async with served_broker(simulated_envoy, database) as broker:
        await broker.installed()
        async with watcher(broker.channel, i1000000=1) as watching_one:
            await watching_one.read()
            began = asyncio.get_running_loop().time()
            await broker.broker.stop()
            assert asyncio.get_running_loop().time() - began < watch_module.HEARTBEAT.total_seconds() / 6
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watching_one.event()
    assert read_refusal(ended.value).reason == "SHUTTING_DOWN"


async def test_more_streams_than_allowed_are_refused_and_calls_are_not(
    simulated_envoy: ServedEnvoy, database: str
) -> None:
    """Watchers have places of their own: they stay long."""
    async with served_broker(simulated_envoy, database, WATCH_STREAMS="1", CALLS_IN_FLIGHT="1") as broker:
        await broker.installed()
        async with watcher(broker.channel, i1000000=0) as first, watcher(broker.channel) as second:
            await first.token()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await second.read()
            assert read_refusal(refused.value).reason == "OVERLOADED"
            assert (await broker.get_token()).generation == 1
        await eventually(lambda: _watches(broker, 0))


async def test_slow_reader_gets_the_latest_token_and_no_backlog(broker: ServedBroker) -> None:
    """A watcher that sleeps must not cost memory, nor be told what is long over."""
    await broker.installed()
    async with watcher(broker.channel, i1000000=1) as watching_one:
        await watching_one.read()
        for _ in range(3):
            assert (await broker.refresh()).generation
        seen = [(await watching_one.token()).generation]
        while seen[-1] != 4:
            seen.append((await watching_one.token()).generation)
        assert seen == sorted(set(seen))


async def test_watched_install_that_envoy_refuses_needs_reauthorization(broker: ServedBroker) -> None:
    """The caller hears of it before it would have asked."""
    await broker.installed()
    async with watcher(broker.channel, i1000000=1) as watching_one:
        await watching_one.read()
        await broker.envoy.behave("1000000", refuse="grant")
        with pytest.raises(grpc.aio.AioRpcError):
            await broker.refresh()
        told = await watching_one.refusal()
    assert told.failure.reason == ErrorReason.ERROR_REASON_REAUTHORIZATION_REQUIRED
