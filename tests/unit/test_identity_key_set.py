"""When keys are read, how long they are believed, and who waits."""

import asyncio
from datetime import timedelta

import pytest
import structlog

from broker.adapters.identity.key_set import FILE_TIMING, URL_TIMING, KeySet
from broker.adapters.identity.key_sources import FETCH_LIMIT
from broker.domain.errors import CallerUnauthenticated
from tests.fakes.clock import FakeClock
from tests.fakes.steps import settled
from tests.tokens_of_callers import KeysAtHand, Signer, key_set_of

OLD, NEW = Signer.new(kid="old"), Signer.new(kid="new")
MOMENT = timedelta(microseconds=1)


class SlowKeys(KeysAtHand):
    """Answers when `go` is set."""

    def __init__(self, document: bytes | None) -> None:
        super().__init__(document)
        self.go = asyncio.Event()

    async def read(self) -> bytes:
        """The document, in the end."""
        document = await super().read()
        await self.go.wait()
        return document


def source_of(*signers: Signer) -> KeysAtHand:
    """A source that has the signers' keys."""
    return KeysAtHand(key_set_of(*(signer.jwk() for signer in signers)))


async def refusal(keys: KeySet, kid: str) -> str:
    """Why there is no such key."""
    with pytest.raises(CallerUnauthenticated) as refused:
        await keys.find(kid)
    return refused.value.why


async def test_keys_are_read_once_and_kept() -> None:
    """Fresh keys cost nothing."""
    clock, source = FakeClock(), source_of(OLD)
    keys = KeySet(source, clock)
    for _ in range(3):
        await keys.find("old")
        clock.advance((URL_TIMING.fresh_for - MOMENT) / 3)
    assert source.reads == 1


async def test_old_keys_are_read_anew_behind_the_callers() -> None:
    """Nobody waits for the issuer while there is a key."""
    clock, source = FakeClock(), SlowKeys(key_set_of(OLD.jwk()))
    source.go.set()
    keys = KeySet(source, clock)
    await keys.find("old")
    source.go.clear()
    source.document = key_set_of(NEW.jwk())
    clock.advance(URL_TIMING.fresh_for)
    for _ in range(3):
        await keys.find("old")
    await settled()
    assert source.reads == 2
    source.go.set()
    await settled()
    await keys.find("new")
    assert await refusal(keys, "old") == "unknown_key"


async def test_f46_unknown_key_is_looked_for_once_an_interval() -> None:
    """A new key is found as soon as a token names it; made-up ones do not hammer the issuer."""
    clock, source = FakeClock(), source_of(OLD)
    keys = KeySet(source, clock)
    await keys.find("old")
    source.document = key_set_of(OLD.jwk(), NEW.jwk())
    clock.advance(URL_TIMING.min_interval - MOMENT)
    for number in range(1000):
        assert await refusal(keys, f"made-up-{number}") == "unknown_key"
    assert source.reads == 1
    clock.advance(MOMENT)
    await keys.find("new")
    for number in range(1000):
        assert await refusal(keys, f"made-up-{number}") == "unknown_key"
    assert source.reads == 2


async def test_f46_flood_at_a_slow_issuer_is_one_request() -> None:
    """However many callers wait, and however many of them go."""
    clock, source = FakeClock(), SlowKeys(key_set_of(OLD.jwk()))
    keys = KeySet(source, clock)
    waiting = [asyncio.create_task(keys.find(f"made-up-{number}")) for number in range(100)]
    waiting.append(asyncio.create_task(keys.find("old")))
    await settled()
    for task in waiting[:50]:
        task.cancel()
    clock.advance(URL_TIMING.min_interval * 3)
    waiting.insert(50, asyncio.create_task(keys.find("made-up-later")))
    await settled()
    assert source.reads == 1
    source.go.set()
    *refused, found = await asyncio.gather(*waiting, return_exceptions=True)
    assert not isinstance(found, BaseException)
    assert [type(each) for each in refused] == [asyncio.CancelledError] * 50 + [CallerUnauthenticated] * 51
    assert source.reads == 1


async def test_keys_serve_on_while_the_issuer_fails_but_not_for_ever() -> None:
    """An outage of the issuer is not ours; but a key may have been taken back in it, and then nobody told us."""
    clock, source = FakeClock(), source_of(OLD)
    keys = KeySet(source, clock)
    await keys.find("old")
    source.document = None
    clock.advance(URL_TIMING.kept_for - MOMENT)
    await keys.find("old")
    await settled()
    assert source.reads == 2
    clock.advance(MOMENT)
    assert await refusal(keys, "old") == "keys_unavailable"
    assert source.reads == 2
    source.document = key_set_of(OLD.jwk())
    clock.advance(URL_TIMING.min_interval)
    await keys.find("old")


@pytest.mark.parametrize("document", [b"<html>", b'{"keys": []}', None])
async def test_bad_set_does_not_replace_a_good_one(document: bytes | None) -> None:
    """And it is not read as "there are no keys"."""
    clock, source = FakeClock(), source_of(OLD)
    keys = KeySet(source, clock)
    await keys.find("old")
    revision, source.document = keys.revision, document
    clock.advance(URL_TIMING.fresh_for)
    with structlog.testing.capture_logs() as lines:
        assert await refusal(keys, "new") == "unknown_key"
    await keys.find("old")
    assert keys.revision == revision
    assert [(line["event"], line["serving_old_ones"]) for line in lines] == [("caller_keys.not_read", True)]


async def test_no_keys_is_no_service() -> None:
    """Fails closed from the start, says so, and does not ask again at once."""
    clock, source = FakeClock(), KeysAtHand(None)
    keys = KeySet(source, clock)
    assert not await keys.load()
    for _ in range(3):
        assert await refusal(keys, "old") == "keys_unavailable"
    assert source.reads == 1
    source.document = key_set_of(OLD.jwk())
    clock.advance(URL_TIMING.min_interval)
    assert await keys.load()
    assert keys.is_usable


async def test_revision_changes_with_the_keys_alone() -> None:
    """What was verified is verified again when it changes: that must not be at every read."""
    clock, source = FakeClock(), source_of(OLD, NEW)
    keys = KeySet(source, clock)
    await keys.load()
    revision = keys.revision
    source.document = key_set_of(NEW.jwk(), OLD.jwk())
    clock.advance(URL_TIMING.fresh_for)
    await keys.load()
    assert keys.revision == revision
    source.document = key_set_of(NEW.jwk(), OLD.jwk(alg="ES256"), Signer.new(kid="third").jwk())
    clock.advance(URL_TIMING.fresh_for)
    await keys.load()
    assert (keys.revision, source.reads) == (revision + 1, 3)


async def test_key_that_changed_under_its_id_changes_the_revision() -> None:
    """An issuer that was set up anew may begin again with the same ids."""
    clock, source = FakeClock(), source_of(OLD)
    keys = KeySet(source, clock)
    await keys.load()
    revision, source.document = keys.revision, key_set_of(Signer.new(kid="old").jwk())
    clock.advance(URL_TIMING.fresh_for)
    await keys.load()
    assert keys.revision != revision


async def test_broken_source_is_logged_and_waits_for_nobody() -> None:
    """A fault of ours in reading must not leave callers hanging, nor end as if there were keys."""

    class Broken(KeysAtHand):
        async def read(self) -> bytes:
            raise RuntimeError("a fault of ours")

    keys = KeySet(Broken(None), FakeClock())
    with structlog.testing.capture_logs() as lines:
        assert await refusal(keys, "old") == "keys_unavailable"
        await settled()
    assert [line["event"] for line in lines] == ["caller_keys.read_broke"]


async def test_close_ends_the_read_under_way() -> None:
    """Its waiters are refused; nothing is left running."""
    keys = KeySet(SlowKeys(key_set_of(OLD.jwk())), FakeClock())
    waiter = asyncio.create_task(refusal(keys, "old"))
    await settled()
    await keys.close()
    assert await waiter == "keys_unavailable"
    await keys.close()


def test_reads_do_not_overlap_by_their_timing() -> None:
    """The least interval is longer than an issuer may take."""
    assert URL_TIMING.min_interval > FETCH_LIMIT
    for timing in (URL_TIMING, FILE_TIMING):
        assert timing.min_interval < timing.fresh_for < timing.kept_for
