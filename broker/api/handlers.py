"""What surrounds every RPC: admission, who calls, the record, errors, and a span when tracing is on.

The handlers are made from the proto's descriptor and not by the generated registration, for two reasons:
GetToken may answer with ready-made bytes, and wrapping a method costs less than an interceptor of grpc.aio.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, Final, NamedTuple

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry import trace

from broker.api.callers import Context, Reception, operation_of, until_not_found_may_be_told
from broker.api.errors import InternalError, describe, trailers
from broker.api.observation import Observation, server_span
from broker.domain.callers import Operation
from broker.domain.errors import (
    AuditUnavailable,
    BrokerError,
    InstallNotFound,
    InvalidField,
    Overloaded,
    ShuttingDown,
)
from broker.service.calls import Call

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = timedelta(milliseconds=500)

Method = Callable[[Any, Call], Awaitable[Message | bytes]]
StreamMethod = Callable[[AsyncIterator[Any], Call], AsyncIterator[Message]]


class Admission:
    """Bounds the calls under way, and refuses new ones once the broker is asked to stop.

    Attributes: calls: how many are under way. closed: whether new ones are refused.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self.calls = 0
        self.closed = False

    def enter(self) -> None:
        """Count a call in. Raises Overloaded or ShuttingDown."""
        if self.closed:
            raise ShuttingDown("this replica is stopping; another answers", RETRY_AFTER)
        if self.calls >= self._max_calls:
            raise Overloaded("too many calls are under way; retry later", RETRY_AFTER)
        self.calls += 1

    def leave(self) -> None:
        """Count a call out."""
        self.calls -= 1


class Admissions(NamedTuple):
    """Streams stay for minutes and do little: they must not take the places of calls."""

    calls: Admission
    streams: Admission

    def close(self) -> None:
        """Refuse all that is new."""
        self.calls.closed = self.streams.closed = True


def handlers_of(
    service: ServiceDescriptor,
    servicer: object,
    admissions: Admissions,
    reception: Reception,
    *,
    traced: bool,
) -> grpc.GenericRpcHandler:
    """Handlers for every method of `service`, each answered by the method of that name of `servicer`."""
    methods: Iterable[MethodDescriptor] = service.methods
    handlers = {
        method.name: _handler(method, getattr(servicer, method.name), admissions, reception, traced=traced)
        for method in methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor, behaviour: Any, admissions: Admissions, reception: Reception, *, traced: bool
) -> "grpc.RpcMethodHandler[Any, Any]":
    parse = GetMessageClass(method.input_type).FromString
    operation = operation_of(method.name)
    name = f"{method.containing_service.full_name}/{method.name}"
    if method.server_streaming:
        streamed = _streamed(operation, parse, behaviour, reception)
        return grpc.stream_stream_rpc_method_handler(
            _stream(name, streamed, admissions.streams), None, _serialize
        )
    call = _unary(name, _answered(operation, parse, behaviour, reception), admissions.calls)
    if traced:
        call = _in_span(server_span(name), call)
    # Parsed behind the door, and by us: gRPC would answer a malformed message with UNKNOWN and a traceback.
    return grpc.unary_unary_rpc_method_handler(call, None, _serialize)


def _serialize(reply: Message | bytes) -> bytes:
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


_Answer = Callable[[bytes, Context], Awaitable[Message | bytes]]


def _answered(
    operation: Operation, parse: Callable[[bytes], Message], behaviour: Method, reception: Reception
) -> _Answer:
    """Who calls, the servicer's method, and the record of how it ended."""

    async def answer(request: bytes, context: Context) -> Message | bytes:
        began = asyncio.get_running_loop().time()
        call = await reception.receive(operation, context)
        try:
            reply = await behaviour(_parsed(request, parse), call)
        except BrokerError as error:
            await _put_on_record(call, error)
            if isinstance(error, InstallNotFound):
                await until_not_found_may_be_told(began)
            raise
        except Exception:
            await _put_on_record(call, InternalError())
            raise
        await call.end()
        return reply

    return answer


def _parsed(request: bytes, parse: Callable[[bytes], Message]) -> Message:
    try:
        return parse(request)
    except DecodeError:
        raise InvalidField("request", "is no message of this RPC's kind") from None


async def _put_on_record(call: Call, error: BrokerError) -> None:
    """Nothing leaves with an error, so it is told also where the record is away."""
    if isinstance(error, AuditUnavailable):
        return
    try:
        await call.end(error)
    except AuditUnavailable as unavailable:
        log.warning("audit.refusal_not_recorded", error=str(unavailable))


def _in_span(span: Callable[[Context], Any], call: _Answer) -> _Answer:
    async def call_in_span(request: bytes, context: Context) -> Message | bytes:
        with span(context):
            return await call(request, context)

    return call_in_span


def _unary(name: str, answer: _Answer, admission: Admission) -> _Answer:
    async def call(request: bytes, context: Context) -> Message | bytes:
        observed = Observation(name)
        try:
            admission.enter()
            try:
                reply = await answer(request, context)
            finally:
                admission.leave()
        except Exception as error:  # noqa: BLE001 (told to the caller, and logged, by `_abort`)
            await _abort(context, observed, name, error)
        else:
            observed.code = grpc.StatusCode.OK
            return reply
        finally:
            observed.end(trace.get_current_span())
        raise AssertionError("abort always raises")

    return call


_Streamed = Callable[[AsyncIterator[bytes], Context], AsyncIterator[Message]]


def _streamed(
    operation: Operation, parse: Callable[[bytes], Message], behaviour: StreamMethod, reception: Reception
) -> _Streamed:
    """Who calls, and the servicer's method; what is asked within the stream is judged there."""

    async def stream(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
        call = await reception.receive(operation, context)

        async def messages() -> AsyncIterator[Message]:
            async for request in requests:
                await reception.pace(call.caller)
                yield _parsed(request, parse)

        async for reply in behaviour(messages(), call):
            yield reply

    return stream


def _stream(name: str, streamed: _Streamed, admission: Admission) -> Any:
    async def call(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
        observed = Observation(name)
        try:
            admission.enter()
            try:
                async for reply in streamed(requests, context):
                    yield reply
            finally:
                admission.leave()
            observed.code = grpc.StatusCode.OK
        except Exception as error:  # noqa: BLE001 (as above)
            await _abort(context, observed, name, error)
        finally:
            observed.end(trace.INVALID_SPAN)

    return call


async def _abort(context: Context, observed: Observation, name: str, error: Exception) -> None:
    """End the call with the error's status. Raises what grpc raises."""
    if not isinstance(error, BrokerError):
        log.error("api.failed", method=name, exc_info=error)
        error = InternalError()
    elif describe(error).code is grpc.StatusCode.INTERNAL:
        log.error("api.failed", method=name, error=type(error).__name__, message=str(error))
    description = describe(error)
    observed.code = description.code
    await context.abort(description.code, description.message, trailers(description))
