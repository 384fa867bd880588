"""Join, the first step of the refresh protocol in refresher.py: who waits, and for which task.

One task for each install and purpose, however many callers wait; it belongs to none of them. Each waits in a span of its
own, linked to the span of the refresh that served it, be it this process's or another's.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final

from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext, use_span

from broker.domain.claims import ClaimTerms
from broker.domain.errors import Overloaded
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding
from broker.service.flights import Flights
from broker.telemetry import metrics, spans

OVERLOAD_RETRY: Final = timedelta(milliseconds=500)

Flight = tuple[InstallKey, ClaimTerms]
# Work for a flight; patient: somebody waits. None: another was faster, and this one was told not to wait for that.
Fetch = Callable[[Flight, bool], Coroutine[Any, Any, Holding | None]]


class Joins:
    """The flights under way, who waits for them, and their spans."""

    def __init__(self, fetch: Fetch, on_join: Callable[[], None], *, max_waiting: int) -> None:
        """`on_join` is told that somebody has come. `max_waiting` bounds the flights."""
        self._fetch = fetch
        self._on_join = on_join
        self._max_waiting = max_waiting
        self._flights: Flights[Flight, Holding | None] = Flights()
        self._awaited: Counter[Flight] = Counter()
        self._spans: dict[Flight, SpanContext] = {}

    def __len__(self) -> int:
        """How many flights are under way."""
        return len(self._flights)

    def is_awaited(self, flight: Flight) -> bool:
        """Whether somebody waits for it by now."""
        return flight in self._awaited

    def traceparent(self, flight: Flight) -> str:
        """Of the span of a flight under way; "" if nobody traces."""
        return spans.traceparent_of(self._spans[flight])

    def start(self, flight: Flight) -> "asyncio.Task[Holding | None] | None":
        """Begin a flight that nobody waits for, or find it under way. None if there is no room."""
        if len(self._flights) >= self._max_waiting:
            return None
        return self._flights.start(flight, lambda: self._begin(flight, patient=False))

    async def join(self, flight: Flight) -> Holding:
        """Wait for what the flight brings. Who is cancelled leaves it to the others.

        Raises:
            Overloaded: too many are under way. Else what the flight raises.
        """
        if flight in self._flights:
            metrics.waiters_coalesced.add(1)
        elif len(self._flights) >= self._max_waiting:
            raise Overloaded("too many installs wait for a refresh; retry later", OVERLOAD_RETRY)
        self._awaited[flight] += 1
        self._on_join()
        try:
            with spans.span(spans.WAIT) as wait:
                while True:
                    holding = await self._waited_for(flight, wait)
                    if holding is not None:
                        return holding
        finally:
            self._awaited[flight] -= 1
            if not self._awaited[flight]:
                del self._awaited[flight]

    async def landed(self) -> None:
        """Wait until no flight is under way."""
        await self._flights.landed()

    async def _waited_for(self, flight: Flight, wait: Span) -> Holding | None:
        """What the flight brings; `wait` is linked to the refresh that brought it, or to the one that did not."""
        task = self._flights.start(flight, lambda: self._begin(flight, patient=True))
        # One that has just ended may have no span any more.
        refresh, fetched_in = self._spans.get(flight, INVALID_SPAN_CONTEXT), ""
        try:
            holding = await asyncio.shield(task)
            fetched_in = holding.install.fetched_in if holding is not None else ""
            return holding
        finally:
            spans.link_to(wait, fetched_in, otherwise=refresh)

    def _begin(self, flight: Flight, *, patient: bool) -> Coroutine[Any, Any, Holding | None]:
        """The flight's work, whose span is there before it begins: waiters link to it."""
        key, terms = flight
        attributes = {
            spans.PLUGIN_ID: key.plugin_id,
            spans.INSTALL_ID: key.install_id,
            spans.PURPOSE: terms.purpose.value,
        }
        span = spans.tracer.start_span(spans.REFRESH, attributes=attributes)
        self._spans[flight] = span.get_span_context()
        return self._work(flight, span, patient=patient)

    async def _work(self, flight: Flight, span: Span, *, patient: bool) -> Holding | None:
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                return await self._fetch(flight, patient)
            except Exception as error:
                spans.failed(span, error)
                raise
            finally:
                del self._spans[flight]
