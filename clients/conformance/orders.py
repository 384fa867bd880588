"""What a scenario has told the gates to do, and what they have seen."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

DETAILS: Final = "grpc-status-details-bin"
PUSHBACK: Final = "grpc-retry-pushback-ms"


@dataclass(frozen=True)
class Seen:
    """A call that came: one attempt of a client's. `peer`: the names of its certificate."""

    rpc: str
    install: str
    metadata: dict[str, str]
    peer: tuple[str, ...] = ()


@dataclass
class Refusal:
    """How calls of an RPC are refused, so long as `times` lasts; None: until it is taken back."""

    code: str
    reason: str | None = None
    domain: str = "tokenbroker.v1"
    retry_after_seconds: float | None = None
    pushback_ms: int | None = None
    times: int | None = None

    def trailers(self) -> list[tuple[str, str | bytes]]:
        """The trailing metadata, as the broker's."""
        found: list[tuple[str, str | bytes]] = []
        if self.reason is not None:
            status = status_pb2.Status(code=self.status.value[0], message="refused by the gate")
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain=self.domain))
            if self.retry_after_seconds is not None:
                delay = duration_pb2.Duration()
                delay.FromTimedelta(timedelta(seconds=self.retry_after_seconds))
                status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            found.append((DETAILS, status.SerializeToString()))
        if self.pushback_ms is not None:
            found.append((PUSHBACK, str(self.pushback_ms)))
        return found

    @property
    def status(self) -> grpc.StatusCode:
        """The code."""
        return grpc.StatusCode[self.code]


@dataclass
class Orders:
    """One for all gates of a scenario, which share what they have seen.

    Attributes:
        lifetime_seconds: the life that answers say is left; None: as the broker says.
        next_within_seconds: how soon heartbeats say that another comes; None: as the broker says.
        watched, unsubscribed: how often each install was subscribed to, and unsubscribed.
        known: the generation that the newest subscription to each install named.
        waiting: how many calls are held, or their answers.
    """

    seen: list[Seen] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    lifetime_seconds: float | None = None
    next_within_seconds: float | None = None
    watched: Counter[str] = field(default_factory=Counter)
    unsubscribed: Counter[str] = field(default_factory=Counter)
    known: dict[str, int] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    held_answers: dict[str, asyncio.Event] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counter[str]:
        """How many calls of each RPC came."""
        return Counter(call.rpc for call in self.seen)

    def refusal_of(self, rpc: str) -> Refusal | None:
        """How this call is refused, if it is."""
        refusal = self.refusals.get(rpc)
        if refusal is None or refusal.times == 0:
            return None
        if refusal.times is not None:
            refusal.times -= 1
        return refusal

    async def wait(self, events: dict[str, asyncio.Event], rpc: str) -> None:
        """Until calls of that RPC are released, if they are held."""
        if rpc in events:
            self.waiting[rpc] += 1
            try:
                await events[rpc].wait()
            finally:
                self.waiting[rpc] -= 1

    def release(self, rpc: str) -> None:
        """Let calls and answers of that RPC go on, from now on."""
        for events in (self.held, self.held_answers):
            if rpc in events:
                events.pop(rpc).set()

    def release_all(self) -> None:
        """At a scenario's end nobody may be left waiting."""
        for rpc in [*self.held, *self.held_answers]:
            self.release(rpc)
