"""What a caller sees, of both clients, against a real server: what comes from memory, and what is waited for."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest

from clients.python.tests.askers import Asker, Clock
from clients.python.tests.conftest import Open
from clients.python.tests.fake_broker import (
    COMPANY,
    INSTALL,
    LIFE,
    PATIENCE,
    FakeBroker,
    refusal,
    serving,
    token_value,
)
from tokenbroker.client import (
    BrokerUnreachable,
    CallerNotAllowed,
    DeadlineExceeded,
    InstallNotFound,
    ProviderUnavailable,
    Reason,
    TokenBrokerError,
)

STALE = 301.0
EXPIRED = LIFE


async def test_token_is_the_brokers(asker: Asker, clock: Clock) -> None:
    """The one thing that all else is about."""
    token = await asker.token(INSTALL)
    assert token.reveal() == token_value(INSTALL, 1)
    assert (token.type, token.generation, token.install_id) == ("Bearer", 1, INSTALL)
    assert (token.company_id, token.usable_until) == (COMPANY, clock.now + LIFE)


async def test_fresh_token_asks_nobody(asker: Asker, broker: FakeBroker) -> None:
    """The fastest call is none."""
    first = await asker.token(INSTALL)
    assert [await asker.token(INSTALL) for _ in range(100)] == [first] * 100
    assert broker.count() == 1


async def test_crowd_is_one_call(asker: Asker, broker: FakeBroker) -> None:
    """The broker must not pay for how many threads a service has."""
    held = broker.hold()
    crowd = [asyncio.create_task(asker.token(INSTALL)) for _ in range(5)]
    await asyncio.to_thread(held.wait_for_one)
    held.opened.set()
    assert {token.generation for token in await asyncio.gather(*crowd)} == {1}
    assert broker.count() == 1


async def test_stale_token_is_served_and_one_refresh_begins_behind_it(
    asker: Asker, broker: FakeBroker, clock: Clock
) -> None:
    """Nobody waits for what is not needed yet, and what comes behind is handed out."""
    await asker.token(INSTALL)
    broker.generation = 2
    held = broker.hold()
    clock.now += STALE
    assert [(await asker.token(INSTALL)).generation for _ in range(20)] == [1] * 20
    await asyncio.to_thread(held.wait_for_one)
    clock.now += EXPIRED
    waiting = asyncio.create_task(asker.token(INSTALL))
    held.opened.set()
    assert (await waiting).generation == 2
    assert broker.count() == 2


async def test_caller_who_gives_up_leaves_the_call_to_the_memory(asker: Asker, broker: FakeBroker) -> None:
    """Else impatient callers would never get a token."""
    held = broker.hold()
    with pytest.raises(DeadlineExceeded) as given_up:
        await asker.token(INSTALL, timeout=0.01)
    assert given_up.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = asyncio.create_task(asker.token(INSTALL))
    held.opened.set()
    assert (await waiting).generation == 1
    assert broker.count() == 1


async def test_call_to_the_broker_has_a_deadline(open_client: Open, broker: FakeBroker) -> None:
    """No wait without an end."""
    broker.hold()
    async with open_client(timeout=0.1) as asker:
        with pytest.raises(DeadlineExceeded):
            await asker.token(INSTALL, timeout=PATIENCE)


async def test_valid_token_serves_through_an_outage(open_client: Open, clock: Clock) -> None:
    """The broker's trouble is nobody's while tokens live; then it is told by its name."""
    async with AsyncExitStack() as stack:
        with serving(FakeBroker()) as broker:
            asker = await stack.enter_async_context(open_client(broker.target))
            await asker.token(INSTALL)
        clock.now += STALE
        assert (await asker.token(INSTALL)).generation == 1
        clock.now += EXPIRED
        with pytest.raises(BrokerUnreachable) as unreachable:
            await asker.token(INSTALL)
        assert unreachable.value.reason is Reason.BROKER_UNREACHABLE


async def test_unavailable_is_retried(asker: Asker, broker: FakeBroker) -> None:
    """A replica that goes is no failure."""
    broker.refuses = refusal(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", times=3)
    assert (await asker.token(INSTALL)).generation == 1
    assert broker.count() == 4


async def test_envoy_that_is_away_is_not_retried(asker: Asker, broker: FakeBroker) -> None:
    """The broker says so; four calls at each caller's expense would help nobody."""
    broker.refuses = refusal(grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE", retry_after=7)
    broker.refuses.trailers += (("grpc-retry-pushback-ms", "-1"),)
    with pytest.raises(ProviderUnavailable) as unavailable:
        await asker.token(INSTALL)
    assert unavailable.value.retry_after == 7
    assert broker.count() == 1


async def test_each_who_waits_gets_an_error_of_his_own(asker: Asker, broker: FakeBroker) -> None:
    """One object raised in many threads would collect all their tracebacks."""
    broker.refuses = refusal(grpc.StatusCode.NOT_FOUND, "INSTALL_NOT_FOUND")
    held = broker.hold()
    crowd = [asyncio.create_task(asker.token(INSTALL)) for _ in range(3)]
    await asyncio.to_thread(held.wait_for_one)
    held.opened.set()
    errors = await asyncio.gather(*crowd, return_exceptions=True)
    assert all(isinstance(error, InstallNotFound) for error in errors)
    assert len({id(error) for error in errors}) == 3


async def test_definite_answer_behind_takes_the_token_away(
    asker: Asker, broker: FakeBroker, clock: Clock
) -> None:
    """Whoever may not use it must not have it from memory either."""
    await asker.token(INSTALL)
    broker.refuses = refusal(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
    held = broker.hold()
    clock.now += STALE
    await asker.token(INSTALL)
    await asyncio.to_thread(held.wait_for_one)
    clock.now += EXPIRED
    waiting = asyncio.create_task(asker.token(INSTALL))
    held.opened.set()
    with pytest.raises(CallerNotAllowed):
        await waiting
    clock.now -= EXPIRED + STALE
    with pytest.raises(CallerNotAllowed):
        await asker.token(INSTALL)


async def test_reported_generation_does_not_come_back_from_a_call_that_was_made_before(
    asker: Asker, broker: FakeBroker, clock: Clock
) -> None:
    """The answer was right when it was given; handed out now, it would only be refused again."""
    token = await asker.token(INSTALL)
    held = broker.hold()
    clock.now += STALE
    await asker.token(INSTALL)
    await asyncio.to_thread(held.wait_for_one)
    await asker.reject(token)
    waiting = asyncio.create_task(asker.token(INSTALL))
    held.opened.set()
    assert (await waiting).generation == 2
    assert broker.count("ReportRejectedToken") == 1


async def test_report_is_spared_if_a_newer_generation_is_known(
    asker: Asker, broker: FakeBroker, clock: Clock
) -> None:
    """Somebody else has seen to it already."""
    old = await asker.token(INSTALL)
    broker.generation = 2
    clock.now += EXPIRED
    await asker.token(INSTALL)
    await asker.reject(old)
    assert broker.count("ReportRejectedToken") == 0


async def test_report_that_fails_leaves_the_token(asker: Asker, broker: FakeBroker) -> None:
    """A broker that is in trouble must not cost its callers what they have."""
    token = await asker.token(INSTALL)
    broker.refuses_reports = refusal(grpc.StatusCode.INTERNAL, "INTERNAL")
    with pytest.raises(TokenBrokerError) as failed:
        await asker.reject(token)
    assert failed.value.reason is Reason.INTERNAL
    assert await asker.token(INSTALL) is token


async def test_who_waits_is_told_when_the_client_is_closed(open_client: Open, broker: FakeBroker) -> None:
    """Nobody may be left waiting for a client that is no more."""
    held = broker.hold()
    async with open_client() as asker:
        waiting = asyncio.create_task(asker.token(INSTALL))
        await asyncio.to_thread(held.wait_for_one)
    with pytest.raises(TokenBrokerError, match="closed"):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        await asker.token(INSTALL)


async def test_number_is_no_install(asker: Asker, broker: FakeBroker) -> None:
    """Envoy writes ids as numbers in places; a mistake of that kind is told before any call is made."""
    with pytest.raises(TypeError, match="str"):
        await asker.token(1000000)  # type: ignore[arg-type] # it is what is tested
    assert broker.count() == 0


async def test_client_says_who_it_is(asker: Asker, broker: FakeBroker) -> None:
    """An operator sees which clients are out of date."""
    await asker.token(INSTALL)
    assert str(broker.calls[0][1]["user-agent"]).startswith("token-broker-client-python/0.1.0 grpc-python")


@pytest.mark.parametrize("option", [{"timeout": 0}, {"max_age": -1}, {"max_installs": 0}, {"target": ""}])
async def test_option_that_makes_no_sense_is_refused(open_client: Open, option: dict[str, object]) -> None:
    """At the start, and not at the first call."""
    with pytest.raises(ValueError, match="must"):
        await open_client(**option).__aenter__()
