"""What surrounds every RPC: admission, errors, and a span when tracing is on.

The handlers are made from the proto's descriptor and not by the generated registration, for two reasons:
GetToken may answer with ready-made bytes, and wrapping a method costs less than an interceptor of grpc.aio.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry import propagate, trace

from broker import telemetry
from broker.api.errors import DETAILS_KEY, InternalError, describe, status_details
from broker.domain.errors import BrokerError, Overloaded, ShuttingDown

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = timedelta(milliseconds=500)

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
else:
    Context = grpc.aio.ServicerContext
Method = Callable[[Any], Awaitable[Message | bytes]]
StreamMethod = Callable[[AsyncIterator[Any]], AsyncIterator[Message]]


class Admission:
    """Bounds the calls under way, and refuses new ones once the broker is asked to stop."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._calls = 0
        self.closed = False

    def enter(self) -> None:
        """Count a call in. Raises Overloaded or ShuttingDown."""
        if self.closed:
            raise ShuttingDown("this replica is stopping; another answers", RETRY_AFTER)
        if self._calls >= self._max_calls:
            raise Overloaded("too many calls are under way; retry later", RETRY_AFTER)
        self._calls += 1

    def leave(self) -> None:
        """Count a call out."""
        self._calls -= 1


def handlers_of(
    service: ServiceDescriptor, servicer: object, admission: Admission, *, traced: bool
) -> grpc.GenericRpcHandler:
    """Handlers for every method of `service`, each answered by the method of that name of `servicer`."""
    methods: Iterable[MethodDescriptor] = service.methods
    handlers = {
        method.name: _handler(method, getattr(servicer, method.name), admission, traced=traced)
        for method in methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor, behaviour: Any, admission: Admission, *, traced: bool
) -> "grpc.RpcMethodHandler[Any, Any]":
    parse = GetMessageClass(method.input_type).FromString
    if method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(_stream(behaviour, admission), parse, _serialize)
    name = f"{method.containing_service.full_name}/{method.name}"
    span = _server_span(name) if traced else None
    return grpc.unary_unary_rpc_method_handler(_unary(name, behaviour, admission, span), parse, _serialize)


def _serialize(reply: Message | bytes) -> bytes:
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


def _unary(
    name: str,
    behaviour: Method,
    admission: Admission,
    span: Callable[[Context], AbstractContextManager[object]] | None,
) -> Any:
    async def call(request: Message, context: Context) -> Message | bytes:
        try:
            admission.enter()
        except BrokerError as error:
            await _abort(context, error)
        try:
            if span is None:
                return await behaviour(request)
            with span(context):
                return await behaviour(request)
        except BrokerError as error:
            await _abort(context, error)
        except Exception:
            log.exception("api.failed", method=name)
            await _abort(context, InternalError())
        finally:
            admission.leave()
        raise AssertionError("abort always raises")

    return call


def _stream(behaviour: StreamMethod, admission: Admission) -> Any:
    async def call(requests: AsyncIterator[Message], context: Context) -> AsyncIterator[Message]:
        try:
            admission.enter()
        except BrokerError as error:
            await _abort(context, error)
        try:
            async for reply in behaviour(requests):
                yield reply
        except BrokerError as error:
            await _abort(context, error)
        finally:
            admission.leave()

    return call


async def _abort(context: Context, error: BrokerError) -> None:
    """End the call with the error's status. Raises what grpc raises."""
    description = describe(error)
    if description.code is grpc.StatusCode.INTERNAL:
        log.error("api.failed", error=type(error).__name__, message=str(error))
    details = ((DETAILS_KEY, status_details(description)),)
    await context.abort(description.code, description.message, details)


def _server_span(name: str) -> Callable[[Context], AbstractContextManager[object]]:
    def start(context: Context) -> AbstractContextManager[object]:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        parent = propagate.extract(metadata)
        return telemetry.tracer.start_as_current_span(name, parent, kind=trace.SpanKind.SERVER)

    return start
