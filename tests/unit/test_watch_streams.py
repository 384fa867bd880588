"""A watch as a stream: its heartbeats, its end, and what happens to it while it looks."""

import asyncio
from datetime import timedelta

import pytest

from broker.domain.errors import ShuttingDown
from broker.service import watch as watch_module
from broker.service import watch_tokens
from broker.service.watch import Silence
from tests.fakes.replica import MAX_STALENESS, Replica, World
from tests.fakes.samples import KEY
from tests.fakes.steps import settled, turn
from tests.unit.test_watch_tokens import generation_told, nothing_is_told, watching

AT_ONCE = timedelta(0)
LATER = timedelta(hours=1)
SOON_SECONDS = 5


async def test_news_that_never_ends_holds_up_no_heartbeat(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An install that changes often, and brings no token, must not make the stream look dead."""
    monkeypatch.setattr(watch_module, "HEARTBEAT", AT_ONCE)
    await world.install()
    async with watching(replica, KEY, known=1) as watch:
        monkeypatch.setattr(watch_module, "HEARTBEAT", LATER)
        assert await watch.next() is Silence.HEARTBEAT
        assert await watch.next() == KEY


async def test_news_that_never_ends_prolongs_no_stream(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a caller whose certificate has expired would only have to go on asking."""
    monkeypatch.setattr(watch_tokens, "LONGEST_WATCH", AT_ONCE)
    await world.install()
    async with watching(replica, KEY) as watch:
        assert await watch.next() is Silence.OVER


async def test_news_that_never_ends_holds_up_no_drain(world: World, replica: Replica) -> None:
    """A broker that stops waits for no watcher."""
    await world.install()
    async with watching(replica, KEY) as watch:
        replica.use_cases.watch_tokens.close()
        with pytest.raises(ShuttingDown):
            await watch.next()


async def test_unsubscribing_while_it_is_looked_at_tells_nothing(world: World, replica: Replica) -> None:
    """The reader of requests runs beside the look, which must find that it has come too late."""
    await world.install()
    async with watching(replica, KEY) as watch:
        looking = asyncio.create_task(watch.look(KEY))
        await turn()
        watch.unsubscribe(*KEY)
        assert await looking is None
        assert replica.store.calls["find_holding"] == 1


async def test_look_that_confirms_what_is_known_wakes_nobody(world: World, replica: Replica) -> None:
    """GetToken looks at a token that is asked for every few seconds; a thousand watchers need not hear of it."""
    await world.install()
    async with watching(replica, KEY) as watch:
        assert await generation_told(watch) == 1
        assert await nothing_is_told(watch)
        waiting = asyncio.create_task(watch.next())
        world.clock.advance(MAX_STALENESS)
        await replica.get_token(*KEY)
        await settled()
        assert replica.store.calls["find_holding"] > 1
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_look_that_takes_too_long_is_made_again(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others' looks may go before; the stream must get to its heartbeats all the same."""
    await world.install()
    monkeypatch.setattr(watch_module, "LOOK_PATIENCE", AT_ONCE)
    monkeypatch.setattr(watch_module, "RETRY_AFTER", AT_ONCE)
    async with watching(replica, KEY) as watch:
        assert await watch.next() == KEY
        assert await watch.look(KEY) is None
        monkeypatch.setattr(watch_module, "LOOK_PATIENCE", timedelta(seconds=SOON_SECONDS))
        assert await generation_told(watch) == 1
