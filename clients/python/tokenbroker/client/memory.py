"""What is remembered: the newest token of each install, and when it is to be asked for anew.

FRESH: from memory. STALE: from memory, and a refresh begins behind it. EXPIRED, or withdrawn: of no use any more.
Pure: `now` is an argument, in seconds of a monotonic clock.
"""

from collections.abc import Callable
from heapq import nsmallest
from math import inf
from operator import itemgetter
from typing import Final

from tokenbroker.client.errors import Failure, Reason
from tokenbroker.client.token import Seconds, Token

SHARE_OF_LIFE_FRESH: Final = 0.5
FRESH_AT_LEAST: Final[Seconds] = 1.0
# After a refresh that failed; longer if the broker said so.
REFRESH_AGAIN: Final[Seconds] = 1.0
# The least lately asked for are looked for by a pass over all, and so many of them are found by one pass.
FOUND_AT_ONCE: Final = 64
NO_GENERATION: Final = -1

# The caller must not use what he has.
DEFINITE: Final = frozenset(
    {
        Reason.INSTALL_NOT_FOUND,
        Reason.REAUTHORIZATION_REQUIRED,
        Reason.CALLER_NOT_ALLOWED,
    }
)


class Entry:
    """What is known of an install. Another token makes another entry: who reads without a lock sees one state."""

    __slots__ = ("asked_at", "fresh_until", "refresh_at", "rejected", "token", "usable_until")

    def __init__(self, token: Token, fresh_until: Seconds, asked_at: Seconds) -> None:
        self.token = token
        self.fresh_until = fresh_until
        self.refresh_at = fresh_until
        self.usable_until = token.usable_until
        self.asked_at = asked_at
        # The newest generation that Envoy has answered 401 to.
        self.rejected = NO_GENERATION

    def withdrawn(self) -> "Entry":
        """The same, of no use: what remains is that its generation is known."""
        entry = Entry(self.token, -inf, self.asked_at)
        entry.usable_until = -inf
        entry.rejected = self.rejected
        return entry


class Memory:
    """So many installs at most; the least lately asked for leaves first.

    `entries` may be read, and `asked_at` in them written, by anybody at any time. All else is for one thread at a time.
    """

    def __init__(self, *, max_age: Seconds, max_installs: int) -> None:
        self.entries: dict[str, Entry] = {}
        # Is told of each install that comes, or leaves.
        self.on_change: Callable[[str], None] = _nobody
        self._max_age = max_age
        self._max_installs = max_installs
        self._leaving: list[tuple[Seconds, str, Entry]] = []

    def usable(self, install: str, now: Seconds) -> Token | None:
        """The newest token, if it may be used."""
        entry = self.entries.get(install)
        return entry.token if entry is not None and now < entry.usable_until else None

    def remember(self, token: Token, now: Seconds) -> Token:
        """Takes an answer that has just come, and returns what to use: the answer, or a newer one that is known."""
        known = self.entries.get(token.install_id)
        if known is not None and known.token.generation > token.generation:
            return known.token if now < known.usable_until else token
        entry = Entry(token, self._fresh_until(token, now), now if known is None else known.asked_at)
        self.entries[token.install_id] = entry
        if known is None:
            self._keep_within_bounds()
            self.on_change(token.install_id)
        return token

    def push(self, token: Token, now: Seconds) -> None:
        """Takes a token that nobody asked for. It may have been sent before its generation was rejected."""
        known = self.entries.get(token.install_id)
        if known is not None and token.generation > known.rejected:
            self.remember(token, now)

    def generation(self, install: str) -> int:
        """The newest that is known of the install, of use or not."""
        known = self.entries.get(install)
        return NO_GENERATION if known is None else known.token.generation

    def withdraw(self, install: str) -> None:
        """What is known of the install is of no use any more."""
        known = self.entries.get(install)
        if known is not None:
            self.entries[install] = known.withdrawn()

    def reject(self, install: str, generation: int) -> None:
        """Envoy has answered 401 to this generation."""
        known = self.entries.get(install)
        if known is not None and known.token.generation <= generation:
            known.rejected = generation
            self.entries[install] = known.withdrawn()

    def forget(self, install: str) -> None:
        """Nothing is known of the install any more."""
        if self.entries.pop(install, None) is not None:
            self.on_change(install)

    def failed(self, install: str, failure: Failure, now: Seconds) -> None:
        """A call about the install failed. Unless that says that its token must not be used, the token serves on."""
        if failure.reason is Reason.INSTALL_NOT_FOUND:
            self.forget(install)
        elif failure.reason in DEFINITE:
            self.withdraw(install)
        elif (entry := self.entries.get(install)) is not None:
            entry.refresh_at = now + max(REFRESH_AGAIN, failure.retry_after or 0.0)

    def clear(self) -> None:
        """Forget all, and tell nobody."""
        self.entries.clear()
        self._leaving.clear()

    def _fresh_until(self, token: Token, now: Seconds) -> Seconds:
        life = token.usable_until - now
        return now + min(life, max(FRESH_AT_LEAST, min(self._max_age, life * SHARE_OF_LIFE_FRESH)))

    def _keep_within_bounds(self) -> None:
        while len(self.entries) > self._max_installs:
            if not self._leaving:
                asked = ((entry.asked_at, install, entry) for install, entry in self.entries.items())
                self._leaving = nsmallest(FOUND_AT_ONCE, asked, key=itemgetter(0))[::-1]
            asked_at, install, entry = self._leaving.pop()
            # Else it was asked for since: then it is not among the least lately asked for any more.
            if self.entries.get(install) is entry and entry.asked_at == asked_at:
                self.forget(install)


def _nobody(_install: str) -> None:
    """Nobody wants to know."""
