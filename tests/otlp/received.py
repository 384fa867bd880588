"""What an OTLP receiver got, and waits for what it will soon get."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SOON_SECONDS: Final = 20

Context = tuple[str, str]
"""A trace's id and a span's, in hex."""


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came. Attributes: resource: who says that it sent it."""

    proto: Span
    resource: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the span is of."""
        return self.proto.name

    @property
    def context(self) -> Context:
        """What children and links name it by."""
        return self.proto.trace_id.hex(), self.proto.span_id.hex()

    @property
    def parent(self) -> Context:
        """The span that it is a child of; the second is "" for none."""
        return self.proto.trace_id.hex(), self.proto.parent_span_id.hex()

    @property
    def links(self) -> list[Context]:
        """The spans that it links to."""
        return [(link.trace_id.hex(), link.span_id.hex()) for link in self.proto.links]

    @property
    def attributes(self) -> dict[str, str]:
        """Each as text."""
        return _as_text(self.proto.attributes)


@dataclass
class Received:
    """What came.

    Attributes:
        url: where the receiver is reached.
        told: the metadata, or the headers, of each export.
        exports: each export as the bytes that came.
        metrics: the names of those that came.
    """

    url: str = ""
    told: list[bytes] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take_spans(self, export: bytes, told: object) -> None:
        """An ExportTraceServiceRequest has come."""
        request = ExportTraceServiceRequest.FromString(export)
        self.spans += [
            ReceivedSpan(span, _as_text(group.resource.attributes))
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        await self._came(export, told)

    async def take_metrics(self, export: bytes, told: object) -> None:
        """An ExportMetricsServiceRequest has come."""
        request = ExportMetricsServiceRequest.FromString(export)
        self.metrics |= {
            metric.name
            for group in request.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        }
        await self._came(export, told)

    async def span(self, name: str, trace_id: str, *, child_of: Context | None = None) -> ReceivedSpan:
        """The one of that name, once it is there.

        Raises:
            TimeoutError: it does not come.
        """
        (found,) = await self.all_of(name, trace_id, child_of=child_of)
        return found

    async def all_of(
        self, name: str, trace_id: str, count: int = 1, *, child_of: Context | None = None
    ) -> list[ReceivedSpan]:
        """All of that name in a trace, once there are so many."""

        def found() -> list[ReceivedSpan]:
            return [
                span
                for span in self.of_trace(trace_id)
                if span.name == name and child_of in {None, span.parent}
            ]

        try:
            await self._until(lambda: len(found()) >= count)
        except TimeoutError:
            came = [(span.name, *span.context, *span.parent) for span in self.of_trace(trace_id)]
            raise TimeoutError(f"{count} of {name} in {trace_id} never came; but: {came}") from None
        return found()

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Those that have come so far."""
        return [span for span in self.spans if span.context[0] == trace_id]

    async def all_metrics(self, names: Iterable[str]) -> None:
        """Return when each has come.

        Raises:
            TimeoutError: some don't.
        """
        expected = frozenset(names)
        try:
            await self._until(lambda: expected <= self.metrics)
        except TimeoutError:
            raise TimeoutError(f"never came: {sorted(expected - self.metrics)}") from None

    async def _came(self, export: bytes, told: object) -> None:
        async with self._news:
            self.told.append(repr(told).encode())
            self.exports.append(export)
            self._news.notify_all()

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON_SECONDS), self._news:
            await self._news.wait_for(holds)


def _as_text(attributes: Iterable[KeyValue]) -> dict[str, str]:
    values = {each.key: each.value for each in attributes}
    return {
        key: str(getattr(value, value.WhichOneof("value") or "string_value")) for key, value in values.items()
    }
