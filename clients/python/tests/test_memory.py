"""What is remembered, and for how long, as pure rules."""

import grpc
import pytest

from tokenbroker.client.errors import Failure, Reason
from tokenbroker.client.memory import Memory
from tokenbroker.client.token import Token

NOW = 1000.0


def token(install: str = "a", *, generation: int = 1, life: float = 1000.0) -> Token:
    """One that came just now."""
    return Token(
        f"secret-{install}-{generation}",
        token_type="Bearer",
        generation=generation,
        install_id=install,
        company_id="",
        usable_until=NOW + life,
    )


def failure(reason: Reason, retry_after: float | None = None) -> Failure:
    """As a call ends with it."""
    return Failure(reason, grpc.StatusCode.UNKNOWN, "said the broker", retry_after)


@pytest.fixture
def memory() -> Memory:
    """Of three installs."""
    return Memory(max_age=300, max_installs=3)


@pytest.mark.parametrize(
    ("life", "fresh"),
    [(1000.0, 300.0), (100.0, 50.0), (1.5, 1.0), (0.5, 0.5), (0.0, 0.0)],
    ids=["max_age", "half of its life", "a second at least", "never longer than it lives", "dead on arrival"],
)
def test_token_is_fresh_so_long(memory: Memory, life: float, fresh: float) -> None:
    """Longer would hide another's report or deletion, shorter would cost calls."""
    memory.remember(token(life=life), NOW)
    assert memory.entries["a"].fresh_until == NOW + fresh


def test_token_is_of_use_until_the_moment_it_expires(memory: Memory) -> None:
    """And not at that moment."""
    known = memory.remember(token(life=10), NOW)
    assert memory.usable("a", NOW + 9.999) is known
    assert memory.usable("a", NOW + 10) is None


def test_older_answer_changes_nothing_and_the_newer_token_is_used(memory: Memory) -> None:
    """An answer may be overtaken on its way."""
    newer = memory.remember(token(generation=2), NOW)
    assert memory.remember(token(generation=1), NOW) is newer
    assert memory.usable("a", NOW) is newer


def test_older_answer_is_used_where_the_newer_token_has_expired(memory: Memory) -> None:
    """The broker has just said that it is valid; it is only not remembered."""
    memory.remember(token(generation=2, life=1), NOW)
    older = token(generation=1)
    assert memory.remember(older, NOW + 1) is older
    assert memory.usable("a", NOW + 1) is None


def test_least_lately_asked_for_leaves(memory: Memory) -> None:
    """Whoever asks often must not pay for who asks once."""
    for number, install in enumerate("abc"):
        memory.remember(token(install), NOW + number)
    memory.entries["a"].asked_at = NOW + 10
    memory.remember(token("d"), NOW + 11)
    memory.entries["c"].asked_at = NOW + 12
    memory.remember(token("e"), NOW + 13)
    assert sorted(memory.entries) == ["c", "d", "e"]


def test_memory_of_many_leaves_in_the_order_of_asking(memory: Memory) -> None:
    """More than are found by one pass; each must leave in its turn."""
    memory = Memory(max_age=300, max_installs=200)
    for number in range(500):
        memory.remember(token(str(number)), NOW + number)
    assert list(memory.entries) == [str(number) for number in range(300, 500)]


def test_refresh_that_came_behind_is_no_asking(memory: Memory) -> None:
    """Else what the watch pushes would keep installs that nobody asks for."""
    for number, install in enumerate("abc"):
        memory.remember(token(install), NOW + number)
    memory.push(token("a", generation=2), NOW + 10)
    memory.remember(token("d"), NOW + 11)
    assert sorted(memory.entries) == ["b", "c", "d"]


def test_who_wants_to_know_is_told_who_comes_and_leaves(memory: Memory) -> None:
    """The watch subscribes by it, and unsubscribes."""
    seen: list[str] = []
    memory.on_change = seen.append
    for number, install in enumerate("aabcd"):
        memory.remember(token(install), NOW + number)
    memory.forget("d")
    assert seen == ["a", "b", "c", "a", "d", "d"]


@pytest.mark.parametrize("reason", [Reason.REAUTHORIZATION_REQUIRED, Reason.CALLER_NOT_ALLOWED])
def test_what_must_not_be_used_is_withdrawn(memory: Memory, reason: Reason) -> None:
    """Its generation stays known, so that nothing older comes back."""
    memory.remember(token(generation=2), NOW)
    memory.failed("a", failure(reason), NOW)
    assert memory.usable("a", NOW) is None
    assert memory.generation("a") == 2


def test_install_that_is_not_found_is_forgotten(memory: Memory) -> None:
    """After it was installed again all is new."""
    memory.remember(token(), NOW)
    memory.failed("a", failure(Reason.INSTALL_NOT_FOUND), NOW)
    assert "a" not in memory.entries


@pytest.mark.parametrize(
    "reason",
    [
        reason
        for reason in Reason
        if reason not in {"INSTALL_NOT_FOUND", "REAUTHORIZATION_REQUIRED", "CALLER_NOT_ALLOWED"}
    ],
)
def test_other_failures_leave_the_token(memory: Memory, reason: Reason) -> None:
    """The broker's trouble, or the caller's certificate, says nothing of the token."""
    known = memory.remember(token(), NOW)
    memory.failed("a", failure(reason), NOW)
    assert memory.usable("a", NOW) is known


@pytest.mark.parametrize(("retry_after", "wait"), [(None, 1.0), (0.5, 1.0), (60.0, 60.0)])
def test_refresh_that_failed_is_tried_again_after(
    memory: Memory, retry_after: float | None, wait: float
) -> None:
    """A broker in trouble must not be hammered."""
    memory.remember(token(), NOW)
    memory.failed("a", failure(Reason.OVERLOADED, retry_after), NOW + 300)
    assert memory.entries["a"].refresh_at == NOW + 300 + wait


def test_rejected_generation_is_not_pushed_back(memory: Memory) -> None:
    """It may have been sent before Envoy rejected it."""
    memory.remember(token(generation=1), NOW)
    memory.reject("a", 1)
    memory.push(token(generation=1), NOW)
    assert memory.usable("a", NOW) is None
    memory.push(token(generation=2), NOW)
    assert memory.usable("a", NOW) is not None


def test_withdrawn_token_that_is_pushed_again_is_of_use_again(memory: Memory) -> None:
    """A policy that took the install away may give it back; the stream tells things in their order."""
    memory.remember(token(), NOW)
    memory.withdraw("a")
    memory.push(token(), NOW)
    assert memory.usable("a", NOW) is not None


def test_report_of_an_older_generation_leaves_the_newer(memory: Memory) -> None:
    """Who reports late must not cost the others a call."""
    newer = memory.remember(token(generation=2), NOW)
    memory.reject("a", 1)
    assert memory.usable("a", NOW) is newer


def test_what_nobody_has_asked_for_is_not_remembered(memory: Memory) -> None:
    """An event may come after its install has left."""
    memory.push(token(), NOW)
    assert not memory.entries
