"""What is said and heard on the stream of WatchTokens, without I/O: one for a client, whatever streams come and go.

Of each install it is only noted that something has changed; what is said of it is made when the stream can take it, by
comparing what is remembered with what the stream was told. So what waits to be said never grows beyond the memory.
One thread at a time.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from tokenbroker.client.errors import Reason
from tokenbroker.client.keeper import Keeper
from tokenbroker.client.memory import DEFINITE
from tokenbroker.client.statuses import reason_of, seconds_of
from tokenbroker.client.token import Seconds
from tokenbroker.client.wire import Wire
from tokenbroker.v1.token_broker_pb2 import WatchTokensRequest, WatchTokensResponse, WatchTokensUnavailable

FIRST_MESSAGE_WITHIN: Final[Seconds] = 30.0
HEARTBEATS_MISSED: Final = 2
SHORTEST_PAUSE: Final[Seconds] = 0.05
LONGEST_PAUSE: Final[Seconds] = 10.0

# After these the broker watches the install no more.
_ENDS: Final = frozenset({Reason.INSTALL_NOT_FOUND, Reason.INVALID_FIELD, Reason.OVERLOADED})
_WITHDRAWS: Final = DEFINITE | {Reason.PROVIDER_UNAVAILABLE}


class Watching:
    """`on_news` is called whenever there may be something to say."""

    def __init__(self, keeper: Keeper[Any], wire: Wire, on_news: Callable[[], None]) -> None:
        self._keeper = keeper
        self._memory = keeper.memory
        self._wire = wire
        self._on_news = on_news
        self._told: set[str] = set()
        self._changed: dict[str, None] = {}
        self._allowed_silence = FIRST_MESSAGE_WITHIN
        self._pause_at_most = SHORTEST_PAUSE
        self.dead_at: Seconds = 0.0
        self._memory.on_change = self._change

    def opened(self, now: Seconds) -> None:
        """There is a stream, which knows nothing."""
        self._told.clear()
        self._changed = dict.fromkeys(self._memory.entries)
        self._allowed_silence = FIRST_MESSAGE_WITHIN
        self.dead_at = now + self._allowed_silence

    def next_request(self) -> WatchTokensRequest | None:
        """What to say next, None if nothing."""
        while self._changed:
            install = next(iter(self._changed))
            del self._changed[install]
            is_remembered, is_told = install in self._memory.entries, install in self._told
            if is_remembered and not is_told:
                self._told.add(install)
                return self._wire.subscribe(install, self._memory.generation(install))
            if is_told and not is_remembered:
                self._told.remove(install)
                return self._wire.unsubscribe(install)
        return None

    def heard(self, message: WatchTokensResponse, now: Seconds) -> None:
        """Something came. What this release does not know is a sign of life, and no more."""
        self._pause_at_most = SHORTEST_PAUSE
        if message.HasField("token"):
            self._memory.push(self._wire.token_of(message.token, message.token.install_id, now), now)
        elif message.HasField("unavailable"):
            self._unavailable(message.unavailable)
        elif message.HasField("heartbeat"):
            next_within = seconds_of(message.heartbeat.next_within)
            if next_within:
                self._allowed_silence = HEARTBEATS_MISSED * next_within
        self.dead_at = now + self._allowed_silence

    def pause(self) -> Seconds:
        """How long to wait before another stream: the watchers of a broker that stops must not come back all at once."""
        pause = random.uniform(0.0, self._pause_at_most)  # noqa: S311 - spreads callers, and guards nothing
        self._pause_at_most = min(LONGEST_PAUSE, 2 * self._pause_at_most)
        return pause

    def _unavailable(self, event: WatchTokensUnavailable) -> None:
        reason = reason_of(event.failure)
        if reason in _ENDS:
            self._told.discard(event.install_id)
        if reason is Reason.INSTALL_NOT_FOUND:
            self._keeper.forget(event.install_id)
        elif reason in _WITHDRAWS:
            self._keeper.withdraw(event.install_id)

    def _change(self, install: str) -> None:
        self._changed[install] = None
        self._on_news()
