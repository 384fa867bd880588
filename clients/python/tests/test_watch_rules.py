"""What is said on a stream and when it is dead, as pure rules."""

import pytest

from clients.python.tests.fake_broker import duration
from clients.python.tests.test_keeper import Landing
from clients.python.tests.test_memory import NOW, token
from tokenbroker.client.keeper import Keeper
from tokenbroker.client.memory import Memory
from tokenbroker.client.watching import LONGEST_PAUSE, SHORTEST_PAUSE, Watching
from tokenbroker.client.wire import Wire
from tokenbroker.v1 import token_broker_pb2 as pb


@pytest.fixture
def memory() -> Memory:
    """Of ten installs."""
    return Memory(max_age=300, max_installs=10)


@pytest.fixture
def watching(memory: Memory) -> Watching:
    """With a stream that is open."""
    watching = Watching(Keeper(memory, Landing), Wire("4242"), lambda: None)
    watching.opened(NOW)
    return watching


def heartbeat(seconds: float) -> pb.WatchTokensResponse:
    """One that promises another."""
    return pb.WatchTokensResponse(heartbeat=pb.WatchTokensHeartbeat(next_within=duration(seconds)))


def test_stream_is_dead_after_thirty_seconds_before_the_first_heartbeat(watching: Watching) -> None:
    """It may never come."""
    assert watching.dead_at == NOW + 30


def test_stream_is_dead_after_twice_what_its_last_heartbeat_said(watching: Watching) -> None:
    """Any message counts as a sign of life."""
    watching.heard(heartbeat(5), NOW + 1)
    assert watching.dead_at == NOW + 11
    watching.heard(pb.WatchTokensResponse(), NOW + 4)
    assert watching.dead_at == NOW + 14


def test_next_stream_has_its_thirty_seconds_again(watching: Watching) -> None:
    """Another broker may answer, which says otherwise."""
    watching.heard(heartbeat(5), NOW)
    watching.opened(NOW + 100)
    assert watching.dead_at == NOW + 130


def test_each_install_is_subscribed_once_with_the_generation_that_is_known(
    watching: Watching, memory: Memory
) -> None:
    """What is known need not be sent."""
    memory.remember(token(generation=1), NOW)
    memory.remember(token(generation=7), NOW)
    subscribe = pb.WatchTokensSubscribe(plugin_id="4242", install_id="a", known_generation=7)
    assert watching.next_request() == pb.WatchTokensRequest(subscribe=subscribe)
    assert watching.next_request() is None


def test_what_came_and_left_before_it_was_said_is_not_said(watching: Watching, memory: Memory) -> None:
    """A stream that is slow must not fall behind by what does not matter any more."""
    memory.remember(token(), NOW)
    memory.forget("a")
    assert watching.next_request() is None


def test_pauses_are_doubled_up_to_a_bound_and_begin_anew_once_something_came(watching: Watching) -> None:
    """Full jitter: only the bound of each can be told."""
    bounds = [SHORTEST_PAUSE * 2**number for number in range(8)] + [LONGEST_PAUSE] * 4
    assert all(0 <= watching.pause() <= bound for bound in bounds)
    assert watching._pause_at_most == LONGEST_PAUSE
    watching.heard(heartbeat(5), NOW)
    assert watching.pause() <= SHORTEST_PAUSE
