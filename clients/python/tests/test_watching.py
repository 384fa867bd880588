"""Watching, of both clients, by streams that a test plays."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from clients.python.tests.askers import Asker
from clients.python.tests.conftest import Open
from clients.python.tests.fake_broker import INSTALL, PATIENCE, FakeBroker, Stream, duration
from tokenbroker.v1 import token_broker_pb2 as pb
from tokenbroker.v1.error_reason_pb2 import ErrorReason

OTHER = "1000001"


@pytest.fixture
async def asker(open_client: Open) -> AsyncIterator[Asker]:
    """A client that watches, by the real clock."""
    async with open_client(watch=True, max_installs=1, clock=time.monotonic) as watching:
        yield watching


async def next_request(stream: Stream) -> pb.WatchTokensRequest:
    """What the client says next."""
    return await asyncio.to_thread(stream.request)


async def watched(broker: FakeBroker) -> Stream:
    """A stream on which the install has been subscribed with the generation that is known."""
    stream = await asyncio.to_thread(broker.stream)
    request = await next_request(stream)
    assert request.subscribe == pb.WatchTokensSubscribe(
        install_id=INSTALL, known_generation=broker.generation
    )
    return stream


async def until_generation(asker: Asker, generation: int) -> None:
    """What is pushed is handed out, soon."""
    async with asyncio.timeout(PATIENCE):
        while (await asker.token(INSTALL)).generation != generation:  # noqa: ASYNC110 - a push gives callers no signal
            await asyncio.sleep(0)


async def test_new_generation_comes_without_a_call(asker: Asker, broker: FakeBroker) -> None:
    """Told is better than asked."""
    await asker.token(INSTALL)
    stream = await watched(broker)
    stream.send(token=broker.token(INSTALL, 2))
    await until_generation(asker, 2)
    assert broker.count() == 1


@pytest.mark.parametrize(
    "reason",
    [
        ErrorReason.ERROR_REASON_PROVIDER_UNAVAILABLE,
        ErrorReason.ERROR_REASON_REAUTHORIZATION_REQUIRED,
        ErrorReason.ERROR_REASON_CALLER_NOT_ALLOWED,
        ErrorReason.ERROR_REASON_INSTALL_NOT_FOUND,
    ],
)
async def test_token_that_must_not_be_used_is_gone(
    asker: Asker, broker: FakeBroker, reason: "ErrorReason.ValueType"
) -> None:
    """Within a second, and not within max_age."""
    await asker.token(INSTALL)
    stream = await watched(broker)
    broker.generation = 2
    failure = pb.TokenFailure(reason=reason)
    stream.send(unavailable=pb.WatchTokensUnavailable(install_id=INSTALL, failure=failure))
    await until_generation(asker, 2)
    assert broker.count() == 2


async def test_other_trouble_takes_nothing_away(asker: Asker, broker: FakeBroker) -> None:
    """A broker without its database says nothing of a token."""
    first = await asker.token(INSTALL)
    stream = await watched(broker)
    failure = pb.TokenFailure(reason=ErrorReason.ERROR_REASON_STORE_UNAVAILABLE)
    stream.send(unavailable=pb.WatchTokensUnavailable(install_id=INSTALL, failure=failure))
    stream.send(token=broker.token(INSTALL, 2))
    await until_generation(asker, 2)
    assert (first.generation, broker.count()) == (1, 1)


async def test_install_that_was_not_found_is_subscribed_again_with_its_next_token(
    asker: Asker, broker: FakeBroker
) -> None:
    """The broker has ended the subscription; an app may be installed again."""
    await asker.token(INSTALL)
    stream = await watched(broker)
    failure = pb.TokenFailure(reason=ErrorReason.ERROR_REASON_INSTALL_NOT_FOUND)
    stream.send(unavailable=pb.WatchTokensUnavailable(install_id=INSTALL, failure=failure))
    broker.generation = 2
    await until_generation(asker, 2)
    request = await next_request(stream)
    assert request.subscribe == pb.WatchTokensSubscribe(install_id=INSTALL, known_generation=2)


async def test_stream_that_ends_is_opened_again_where_it_was(asker: Asker, broker: FakeBroker) -> None:
    """Nothing is lost by it, and nothing sent twice."""
    await asker.token(INSTALL)
    stream = await watched(broker)
    stream.send(token=broker.token(INSTALL, 2))
    await until_generation(asker, 2)
    broker.generation = 2
    stream.close()
    await watched(broker)
    assert broker.count("WatchTokens") == 2


async def test_stream_on_which_nothing_comes_is_dead(asker: Asker, broker: FakeBroker) -> None:
    """A connection may hang without an end; after twice what the heartbeat said it is given up."""
    await asker.token(INSTALL)
    stream = await watched(broker)
    stream.send(heartbeat=pb.WatchTokensHeartbeat(next_within=duration(0.05)))
    assert await asyncio.to_thread(stream.ended.wait, PATIENCE)
    await watched(broker)


async def test_install_that_leaves_memory_is_watched_no_more(asker: Asker, broker: FakeBroker) -> None:
    """Or the broker would remember what the client has forgotten."""
    await asker.token(INSTALL)
    stream = await watched(broker)
    await asker.token(OTHER)
    changes = [await next_request(stream) for _ in range(2)]
    assert pb.WatchTokensRequest(unsubscribe=pb.WatchTokensUnsubscribe(install_id=INSTALL)) in changes
    assert {each.subscribe.install_id for each in changes} == {OTHER, ""}


async def test_closing_ends_the_stream(open_client: Open, broker: FakeBroker) -> None:
    """The broker must not keep it."""
    async with open_client(watch=True) as asker:
        await asker.token(INSTALL)
        stream = await watched(broker)
    assert await asyncio.to_thread(stream.ended.wait, PATIENCE)


async def test_without_watch_there_is_no_stream(open_client: Open, broker: FakeBroker) -> None:
    """It costs the broker something; whoever wants it says so."""
    async with open_client() as asker:
        await asker.token(INSTALL)
    assert broker.count("WatchTokens") == 0
