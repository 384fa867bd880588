"""What is seen of an RPC: a server span, and how long it took, by OpenTelemetry's conventions for RPC and gRPC.

https://opentelemetry.io/docs/specs/semconv/rpc/grpc/: of a server's status codes those that are our own fault make the
span an error; a caller's mistake does not.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import grpc
from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

from broker.api.callers import Context
from broker.telemetry import metrics, spans

OUR_FAULT: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Observation:
    """One RPC under way. Attributes: code: how it ends; CANCELLED unless somebody says otherwise."""

    __slots__ = ("_began", "_method", "code")

    def __init__(self, method: str) -> None:
        self._method = method
        self._began = time.perf_counter()
        self.code = grpc.StatusCode.CANCELLED

    def end(self, span: trace.Span) -> None:
        """The call has ended by `code`. To be called with `span` still the current one: it is the metric's example."""
        metrics.calls.record(time.perf_counter() - self._began, _labels(self._method, self.code))
        if span.is_recording():
            span.set_attribute(metrics.RPC_STATUS, self.code.name)
            if self.code is not grpc.StatusCode.OK:
                span.set_attribute(spans.ERROR_TYPE, self.code.name)
            if self.code in OUR_FAULT:
                span.set_status(trace.StatusCode.ERROR)


def server_span(method: str) -> Callable[[Context], Any]:
    """Starts the span of a call of `method` as the current one, within the trace that the caller's metadata names."""
    attributes: dict[str, AttributeValue] = {metrics.RPC_SYSTEM: "grpc", metrics.RPC_METHOD: method}

    def start(context: Context) -> Any:
        headers = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if key in {spans.TRACEPARENT, spans.TRACESTATE} and isinstance(value, str)
        }
        caller = trace.NonRecordingSpan(spans.read_context(headers)) if headers else trace.INVALID_SPAN
        return spans.tracer.start_as_current_span(
            method,
            trace.set_span_in_context(caller),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        )

    return start


@cache
def _labels(method: str, code: grpc.StatusCode) -> metrics.Labels:
    """Made once for each: few methods, few codes."""
    return {metrics.RPC_SYSTEM: "grpc", metrics.RPC_METHOD: method, metrics.RPC_STATUS: code.name}
