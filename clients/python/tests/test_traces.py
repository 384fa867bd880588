"""One trace shows a token's way, from the caller to Envoy; no SDK is needed for that."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from clients.python.tests.askers import Asker
from clients.python.tests.conftest import Open
from clients.python.tests.fake_broker import INSTALL, FakeBroker

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def traced() -> Iterator[None]:
    """The caller's trace, and what he carries along besides."""
    parent = TraceContextTextMapPropagator().extract({"traceparent": PARENT, "tracestate": "a=b"})
    before = context.attach(baggage.set_baggage("who", "somebody", parent))
    yield
    context.detach(before)


@pytest.mark.usefixtures("traced")
async def test_callers_trace_goes_along_and_nothing_else(asker: Asker, broker: FakeBroker) -> None:
    """A caller's baggage is not for the broker."""
    await asker.reject(await asker.token(INSTALL))
    assert [name for name, _ in broker.calls] == ["GetToken", "ReportRejectedToken"]
    for _, metadata in broker.calls:
        assert (metadata["traceparent"], metadata["tracestate"]) == (PARENT, "a=b")
        assert "baggage" not in metadata


@pytest.mark.usefixtures("traced")
async def test_stream_is_in_nobodys_trace(open_client: Open, broker: FakeBroker) -> None:
    """It outlives whoever asked for the first token by far."""
    async with open_client(watch=True) as asker:
        await asker.token(INSTALL)
        await asyncio.to_thread(broker.stream)
    (metadata,) = (metadata for name, metadata in broker.calls if name == "WatchTokens")
    assert "traceparent" not in metadata
