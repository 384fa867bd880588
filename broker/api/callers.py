"""Who calls: what a gRPC call shows of its caller, taken to the domain; and how long a refusal takes."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from opentelemetry import trace

from broker.api.caller_rates import CallerRates
from broker.api.certificate_names import certificate_names
from broker.domain.callers import Caller, Credentials, Operation
from broker.domain.errors import Overloaded
from broker.domain.secret import Secret
from broker.ports import Authenticator
from broker.service.calls import Call, Guard
from broker.telemetry import spans

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
else:
    Context = grpc.aio.ServicerContext

AUTHORIZATION: Final = "authorization"
BEARER: Final = "bearer "
# RPCs that are another operation's form for many installs.
_OPERATIONS: Final = {"BatchGetTokens": Operation.GET_TOKEN}
# Longer than a look into the database mostly takes, so that an install that is unknown (a look), one that is another's
# (from memory, or a look) and one that is gone can't be told apart by the clock.
NOT_FOUND_TAKES: Final = timedelta(milliseconds=50)


def operation_of(method: str) -> Operation:
    """What a policy calls the RPC of that name."""
    return _OPERATIONS.get(method) or Operation(method)


class Reception:
    """Makes a Call of each RPC, if its caller is known."""

    def __init__(self, authenticator: Authenticator, guard: Guard, rates: CallerRates) -> None:
        self._authenticator = authenticator
        self._guard = guard
        self._rates = rates

    async def receive(self, operation: Operation, context: Context) -> Call:
        """The call.

        Raises:
            CallerUnauthenticated.
            Overloaded: this caller calls too often.
        """
        bearer, trace_id = _read_metadata(context)
        current = trace.get_current_span().get_span_context()
        if current.is_valid:
            trace_id = trace.format_trace_id(current.trace_id)
        credentials = Credentials(certificate_names(context.auth_context()), bearer)
        caller = await self._authenticator.authenticate(credentials)
        self._rates.count(caller)
        return self._guard.begin(caller, operation, address=context.peer(), trace_id=trace_id)

    async def pace(self, caller: Caller) -> None:
        """Count what a caller asks within a stream, and wait as long as it asks too often."""
        while True:
            try:
                return self._rates.count(caller)
            except Overloaded as too_often:
                await asyncio.sleep(too_often.retry_after.total_seconds())


async def until_not_found_may_be_told(began: float) -> None:
    """Wait until "no such install" may be told for a call that began then, by the event loop's clock."""
    left = began + NOT_FOUND_TAKES.total_seconds() - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(left)


def _read_metadata(context: Context) -> tuple[Secret | None, str]:
    """The bearer token, and the id of the caller's trace, as far as they are there."""
    bearer, trace_id = None, ""
    for key, value in context.invocation_metadata() or ():
        if key == AUTHORIZATION and isinstance(value, str) and value[: len(BEARER)].lower() == BEARER:
            bearer = Secret(value[len(BEARER) :].strip())
        elif key == spans.TRACEPARENT and isinstance(value, str):
            found = spans.read_context({spans.TRACEPARENT: value})
            trace_id = trace.format_trace_id(found.trace_id) if found.is_valid else ""
    return bearer, trace_id
