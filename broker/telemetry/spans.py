"""Every span and every attribute of one, by name; and what ties the spans of one token together.

A caller that waits for a refresh waits in a span of its own, which links to the span of the one refresh that served it,
also if that was another replica's: its context stands in the database beside the claim, and then beside the pair.

No attribute holds a token, a query string, or the words of an answer.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

SERVICE_NAME: Final = "envoy-token-broker"

POLICY: Final = "tokenbroker.policy"
CACHE: Final = "tokenbroker.cache"
LOOK_UP: Final = "tokenbroker.look_up"
WAIT: Final = "tokenbroker.wait"
REFRESH: Final = "tokenbroker.refresh"
TURN: Final = "tokenbroker.wait_for_turn"
CLAIM: Final = "tokenbroker.claim"
WAIT_FOR_CLAIM: Final = "tokenbroker.wait_for_claim"
CALL: Final = "tokenbroker.call_envoy"
KEEP: Final = "tokenbroker.keep"
RESOLVE: Final = "tokenbroker.resolve"

PLUGIN_ID: Final = "tokenbroker.plugin_id"
INSTALL_ID: Final = "tokenbroker.install_id"
PURPOSE: Final = "tokenbroker.purpose"
GRANT: Final = "tokenbroker.grant"
ATTEMPT: Final = "tokenbroker.attempt"
ENDING: Final = "tokenbroker.ending"
OUTCOME: Final = "tokenbroker.outcome"
ALLOWED: Final = "tokenbroker.policy.allowed"
OPERATION: Final = "tokenbroker.operation"
ERROR_TYPE: Final = "error.type"

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
# Of W3C's two headers alone. Baggage is somebody else's words, which have no business here.
_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()

tracer: Final = trace.get_tracer(SERVICE_NAME)


@contextmanager
def span(
    name: str,
    *,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[trace.Span]:
    """A span of what is done in it, and the current one meanwhile."""
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            failed(current, error)
            raise


def failed(of: trace.Span, error: Exception) -> None:
    """What the span is of has failed. Its kind is told and not its words, which may be somebody else's."""
    of.set_attribute(ERROR_TYPE, type(error).__name__)
    of.set_status(trace.StatusCode.ERROR)


def in_span(name: str, **attributes: str) -> AbstractContextManager[trace.Span]:
    """A span of something that happens thousands of times a second: there is one only in a trace that is sampled."""
    if not trace.get_current_span().is_recording():
        return nullcontext(trace.INVALID_SPAN)
    return span(name, attributes=attributes)


def read_context(headers: Mapping[str, str]) -> trace.SpanContext:
    """The span that headers (or metadata) of those names speak of; invalid if they speak of none."""
    return trace.get_current_span(_TRACE_CONTEXT.extract(headers)).get_span_context()


def traceparent_of(context: trace.SpanContext) -> str:
    """The span as one header says it (W3C Trace Context, section 3.2); "" for none."""
    return outbound_headers(context).get(TRACEPARENT, "")


def outbound_headers(context: trace.SpanContext | None = None) -> dict[str, str]:
    """The headers that carry this span, or the current one, to somebody else; empty without one."""
    headers: dict[str, str] = {}
    carried = trace.NonRecordingSpan(context) if context is not None else trace.get_current_span()
    _TRACE_CONTEXT.inject(headers, trace.set_span_in_context(carried))
    return headers


def link_to(of: trace.Span, traceparent: str, otherwise: trace.SpanContext) -> None:
    """Link the span `of` to the one that `traceparent` speaks of, or to another if it speaks of none."""
    context = read_context({TRACEPARENT: traceparent}) if traceparent else otherwise
    if context.is_valid:
        of.add_link(context)
