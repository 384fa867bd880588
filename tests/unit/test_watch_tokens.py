"""WatchTokens: what a watcher is told, whatever is lost, refused or away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import pytest

from broker.domain.callers import Caller, KnownBy, Operation
from broker.domain.errors import (
    InstallNotFound,
    InvalidField,
    Overloaded,
    ProviderUnavailable,
    ShuttingDown,
)
from broker.domain.identifiers import InstallKey
from broker.service import watch as watch_module
from broker.service.look_ups import Source
from broker.service.token_cache import Entry
from broker.service.watch import Silence, Told, Watch
from broker.service.watch_tokens import TICK
from tests.fakes.audit_log import FakeAuditLog
from tests.fakes.authorizer import FakeAuthorizer, Line
from tests.fakes.replica import MAX_STALENESS, Replica, World
from tests.fakes.samples import KEY, OTHER_KEY
from tests.fakes.steps import settled

WATCHER: Final = Caller("watcher", KnownBy.CERTIFICATE)
A_MOMENT: Final = timedelta(milliseconds=1)


def line(key: InstallKey = KEY) -> Line:
    """The policy's line that gives the watcher an install."""
    return (WATCHER.name, Operation.WATCH_TOKENS, key.plugin_id, key.install_id)


@asynccontextmanager
async def watching(replica: Replica, *keys: InstallKey, known: int = 0) -> AsyncIterator[Watch]:
    """A stream that is subscribed to `keys`, in a process that keeps its watchers up to date."""
    watch_tokens = replica.use_cases.watch_tokens
    running = asyncio.create_task(watch_tokens.run())
    call = replica.use_cases.guard.begin(WATCHER, Operation.WATCH_TOKENS)
    try:
        async with watch_tokens.open(call) as watch:
            for key in keys:
                watch.subscribe(*key, known)
            yield watch
    finally:
        running.cancel()
        await asyncio.wait([running])


async def told(watch: Watch) -> Told:
    """The next thing that the stream tells."""
    async with asyncio.timeout(5):
        while True:
            something = await watch.next()
            assert not isinstance(something, Silence)
            looked_at = something if isinstance(something, Told) else await watch.look(something)
            if looked_at is not None:
                return looked_at


async def generation_told(watch: Watch) -> int:
    """The generation of the token that the stream tells next."""
    what = (await told(watch)).what
    assert isinstance(what, Entry), what
    return what.holding.install.generation


async def nothing_is_told(watch: Watch) -> bool:
    """Whether the stream has nothing to tell once all that runs has come to rest."""
    telling = asyncio.create_task(told(watch))
    await settled()
    is_silent = not telling.done()
    telling.cancel()
    await asyncio.wait([telling])
    return is_silent


async def refreshed_by(replica: Replica) -> None:
    """An operator has the install refreshed there."""
    await replica.installs.refresh(*KEY)


async def test_news_of_another_replica_comes_by_its_hint(world: World, replica: Replica) -> None:
    """The hint names an install; the token comes from the store."""
    await world.install()
    async with watching(replica, KEY, known=1) as watch:
        assert await nothing_is_told(watch)
        await refreshed_by(Replica(world))
        assert await generation_told(watch) == 2
    assert replica.use_cases.handed_out[Source.WATCH] == 1


async def test_lost_hint_is_made_up_for_within_the_caches_staleness(world: World, replica: Replica) -> None:
    """A hint is only a hint: the store is compared with all the same."""
    await world.install()
    async with watching(replica, KEY, known=1) as watch:
        assert await nothing_is_told(watch)
        world.hints.are_lost = True
        await refreshed_by(Replica(world))
        await passes(world, MAX_STALENESS - TICK)
        assert await nothing_is_told(watch)
        assert "standings" not in replica.store.calls
        await passes(world, 2 * TICK)
        assert await generation_told(watch) == 2
        await passes(world, MAX_STALENESS - 2 * TICK)
        assert replica.store.calls["standings"] == 1


async def test_who_hears_no_hints_compares_each_second(world: World, replica: Replica) -> None:
    """Behind a pooler nobody hears: watchers are told within a second or so nevertheless."""
    await world.install()
    world.hints.are_heard, world.hints.are_lost = False, True
    async with watching(replica, KEY, known=1) as watch:
        assert await nothing_is_told(watch)
        await refreshed_by(Replica(world))
        await passes(world, TICK)
        assert await generation_told(watch) == 2


async def passes(world: World, duration: timedelta) -> None:
    """Time passes, a tick at a time, and everything that it wakes comes to rest."""
    for _ in range(round(duration / TICK)):
        await settled()
        world.clock.advance(TICK)
        await settled()


async def test_slow_reader_is_told_the_latest_only(world: World, replica: Replica) -> None:
    """What came between is over, and is kept nowhere."""
    await world.install()
    async with watching(replica, KEY, known=1) as watch:
        for _ in range(3):
            await refreshed_by(replica)
        assert await generation_told(watch) == 4
        assert await nothing_is_told(watch)


async def test_each_watcher_has_what_it_watches(world: World, replica: Replica) -> None:
    """News of one install wakes nobody who watches another, and unsubscribing ends it."""
    await world.install()
    await world.install(OTHER_KEY)
    async with watching(replica, KEY, known=1) as one, watching(replica, OTHER_KEY, known=1) as another:
        assert replica.use_cases.watch_tokens.subscriptions == 2
        await refreshed_by(replica)
        assert await generation_told(one) == 2
        assert await nothing_is_told(another)
        one.unsubscribe(*KEY)
        await refreshed_by(replica)
        assert await nothing_is_told(one)
    assert len(replica.use_cases.watch_tokens) == 0
    assert not replica.use_cases.changes.followed


async def test_changed_policy_ends_what_it_no_longer_gives(world: World) -> None:
    """Also where nothing else happens: no later token may reach who must not have it."""
    authorizer, audit = FakeAuthorizer(line(), line(OTHER_KEY)), FakeAuditLog()
    replica = Replica(world, authorizer=authorizer, audit=audit)
    await world.install()
    await world.install(OTHER_KEY)
    async with watching(replica, KEY, OTHER_KEY, known=1) as watch:
        assert await nothing_is_told(watch)
        authorizer.take(line())
        await passes(world, TICK)
        ended = await told(watch)
        assert ended.key == KEY
        assert isinstance(ended.what, InstallNotFound)
        assert audit.records[-1].outcome == "DENIED"
        await refreshed_by(Replica(world))
        assert await nothing_is_told(watch)
        assert len(watch) == 1


async def test_who_lost_an_install_is_told_so_though_the_store_is_away(world: World) -> None:
    """What is known of the install suffices to judge: the database's outage must not prolong anybody's rights."""
    authorizer = FakeAuthorizer(line())
    replica = Replica(world, authorizer=authorizer, audit=FakeAuditLog())
    await world.install()
    async with watching(replica, KEY, known=1) as watch:
        assert await nothing_is_told(watch)
        replica.store.faults.away = True
        world.clock.advance(MAX_STALENESS)
        authorizer.take(line())
        await passes(world, TICK)
        assert isinstance((await told(watch)).what, InstallNotFound)


async def test_token_of_an_install_that_is_not_given_is_not_told(world: World) -> None:
    """To whom the policy gives nothing, every install is one that does not exist (P6)."""
    replica = Replica(world, authorizer=FakeAuthorizer(line(OTHER_KEY)), audit=FakeAuditLog())
    await world.install()
    async with watching(replica, KEY) as watch:
        assert isinstance((await told(watch)).what, InstallNotFound)
        watch.subscribe(KEY.plugin_id, "unheard-of", 0)
        assert isinstance((await told(watch)).what, InstallNotFound)


async def test_each_token_is_on_record_before_it_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: no audit, no token; and it follows once the record can be written again."""
    monkeypatch.setattr(watch_module, "RETRY_AFTER", A_MOMENT)
    audit = FakeAuditLog()
    replica = Replica(world, authorizer=FakeAuthorizer(line()), audit=audit)
    await world.install()
    audit.refuses = True
    async with watching(replica, KEY) as watch:
        assert await nothing_is_told(watch)
        audit.refuses = False
        assert await generation_told(watch) == 1
    (record,) = audit.records
    assert (record.operation, record.outcome, record.generation) == (Operation.WATCH_TOKENS, "OK", 1)
    assert record.token_fingerprint


async def test_store_that_is_away_is_no_reason_to_use_no_token(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher's token is as good as before; what is new is told when the store is back."""
    monkeypatch.setattr(watch_module, "RETRY_AFTER", A_MOMENT)
    await world.install()
    replica.store.faults.next("find_holding")
    async with watching(replica, KEY) as watch:
        assert await generation_told(watch) == 1


async def test_rejected_token_is_told_once_and_then_its_successor(world: World, replica: Replica) -> None:
    """What one caller has reported spares the others a 401."""
    await world.install()
    async with watching(replica, KEY) as watch:
        assert await generation_told(watch) == 1
        gate = replica.endpoint.hold()
        await replica.report_rejected_token(*KEY, 1)
        assert isinstance((await told(watch)).what, ProviderUnavailable)
        watch.judge_again()
        assert await nothing_is_told(watch)
        gate.opened.set()
        assert await generation_told(watch) == 2


async def test_uninstalled_install_is_told_and_forgotten(world: World, replica: Replica) -> None:
    """The caller must not use what it has; a new install is subscribed to anew."""
    await world.install()
    async with watching(replica, KEY, known=1) as watch:
        await replica.installs.delete(*KEY)
        assert isinstance((await told(watch)).what, InstallNotFound)
        assert len(watch) == 0


async def test_expired_token_is_not_told(world: World, replica: Replica) -> None:
    """P3 holds for watchers, too: an old subscription's look must not bring an old token."""
    held = await world.install()
    assert held.install.validity is not None
    world.clock.advance(held.install.validity.lifetime)
    async with watching(replica, KEY) as watch:
        assert await nothing_is_told(watch)
        await refreshed_by(Replica(world))
        assert await generation_told(watch) == 2


async def test_stream_takes_no_more_subscriptions_than_it_says(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one caller can make a replica remember has an end."""
    monkeypatch.setattr(watch_module, "MAX_SUBSCRIPTIONS", 1)
    await world.install()
    async with watching(replica, KEY, OTHER_KEY) as watch:
        refused = await told(watch)
        assert refused.key == OTHER_KEY
        assert isinstance(refused.what, Overloaded)
        watch.subscribe(*KEY, 0)
        assert await generation_told(watch) == 1


async def test_refusals_that_nobody_reads_are_kept_up_to_a_bound(replica: Replica) -> None:
    """A caller that sends rubbish and reads nothing costs no more than that."""
    async with watching(replica) as watch:
        for _ in range(3 * watch_module.MAX_REFUSALS):
            watch.subscribe("", "no id", 0)
        for _ in range(watch_module.MAX_REFUSALS):
            assert isinstance((await told(watch)).what, InvalidField)
        assert await nothing_is_told(watch)


async def test_closing_ends_every_stream_and_opens_none(world: World, replica: Replica) -> None:
    """A replica that stops lets its watchers go to another."""
    await world.install()
    async with watching(replica, KEY, known=1) as watch:
        replica.use_cases.watch_tokens.close()
        with pytest.raises(ShuttingDown):
            await told(watch)
        with pytest.raises(ShuttingDown):
            async with watching(replica):
                pass


async def test_unrecorded_refusal_is_told_all_the_same(world: World) -> None:
    """Nothing leaves with a refusal."""
    audit = FakeAuditLog()
    replica = Replica(world, authorizer=FakeAuthorizer(), audit=audit)
    await world.install()
    audit.refuses = True
    async with watching(replica, KEY) as watch:
        assert isinstance((await told(watch)).what, InstallNotFound)
    assert not audit.records


async def test_failed_comparison_is_made_again(world: World, replica: Replica) -> None:
    """A database that is away for a moment must not end the keeping-up."""
    await world.install()
    world.hints.are_heard, world.hints.are_lost = False, True
    async with watching(replica, KEY, known=1) as watch:
        assert await nothing_is_told(watch)
        await refreshed_by(Replica(world))
        replica.store.faults.next("standings")
        await passes(world, TICK)
        await passes(world, TICK)
        assert await generation_told(watch) == 2
