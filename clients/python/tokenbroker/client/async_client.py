"""AsyncClient: a valid token, mostly out of memory, for programs of tasks.

It belongs to the event loop on which it is first asked. What it decides, and how, is the Keeper's, as with Client.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc

from tokenbroker.client.async_watch import AsyncWatch, AsyncWatchCall
from tokenbroker.client.channels import Channels, options
from tokenbroker.client.credentials import Credentials, Material, Proofs
from tokenbroker.client.errors import CLOSED, GIVEN_UP, Failure, not_made
from tokenbroker.client.keeper import Flight, Keeper, Outcome
from tokenbroker.client.memory import Memory
from tokenbroker.client.options import MAX_AGE, MAX_INSTALLS, TIMEOUT, Options, checked_install
from tokenbroker.client.statuses import failure_of
from tokenbroker.client.token import Seconds, Token
from tokenbroker.client.wire import Metadata, Wire, identity, trace
from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerStub

if TYPE_CHECKING:
    # Only its type stubs have this class.
    from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerAsyncStub

_TokenFlight = Flight[asyncio.Future[Outcome]]


class _Link(NamedTuple):
    channel: grpc.aio.Channel
    stub: "TokenBrokerAsyncStub"


class AsyncClient:
    """Hands out valid access tokens of Envoy's. One for a process is enough. Close it, or use `async with`.

    Args:
        target: a gRPC name, `dns:///tokens:50051` or `ipv4:10.0.0.1:50051,10.0.0.2:50051`.
        credentials: who calls.
        plugin_id: the app. May be left out where the broker serves a single app.
        timeout: seconds that a call to the broker may take.
        max_age: seconds that a token is handed out without asking the broker anew, at most.
        max_installs: whose tokens are remembered; the least lately asked for leaves first.
        watch: whether the broker tells of new tokens by a stream.
        clock: a monotonic one, in seconds. For tests.

    Raises:
        ValueError: one of these makes no sense, or a file of the credentials is broken.
        OSError: a file of the credentials can't be read.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: Credentials,
        plugin_id: str = "",
        timeout: Seconds = TIMEOUT,
        max_age: Seconds = MAX_AGE,
        max_installs: int = MAX_INSTALLS,
        watch: bool = False,
        clock: Callable[[], Seconds] = time.monotonic,
    ) -> None:
        self._options = Options(target, timeout, max_age, max_installs)
        self._clock = clock
        self._wire = Wire(plugin_id)
        self._proofs = Proofs(credentials)
        self._channels = Channels(self._proofs, timeout, self._open, self._close_link)
        memory = Memory(max_age=max_age, max_installs=max_installs)
        self._entries = memory.entries
        self._keeper: Keeper[asyncio.Future[Outcome]] = Keeper(memory, _new_landing)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._watch = AsyncWatch(self._keeper, self._wire, self._open_watch, clock) if watch else None

    async def token(self, install: str, *, timeout: Seconds | None = None) -> Token:  # noqa: ASYNC109 - Client's word
        """A token of the install that may be used now. Whoever waits may be cancelled; the call goes on for others.

        Args:
            install: its id.
            timeout: seconds that this caller waits; the client's own if left out.

        Raises:
            TokenBrokerError: there is none; its reason says why.
            RuntimeError: the client is closed, or is another event loop's.
        """
        try:
            entry = self._entries[install]
        except KeyError:
            pass
        else:
            now = self._clock()
            if now < entry.fresh_until:
                entry.asked_at = now
                return entry.token
        return await self._ask(
            checked_install(install), self._options.timeout if timeout is None else timeout
        )

    async def reject(self, token: Token) -> None:
        """Tells the broker that Envoy answered 401 to this token, and forgets it. The adapter does that by itself.

        Nothing is done if a newer one is in memory.

        Raises:
            TokenBrokerError: the broker could not be told; the token stays, unless it must not be used anyway.
            RuntimeError: the client is closed, or is another event loop's.
        """
        self._refuse_if_unusable()
        if self._keeper.knows_newer(token, self._clock()):
            return
        try:
            await self._link().stub.ReportRejectedToken(
                self._wire.report(token), timeout=self._options.timeout, metadata=self._metadata(trace())
            )
        except grpc.aio.AioRpcError as error:
            failure = failure_of(error)
            self._keeper.memory.failed(token.install_id, failure, self._clock())
            raise failure.error() from error
        self._keeper.rejected(token)

    async def close(self) -> None:
        """Forgets all tokens, and ends all calls. Whoever waits for one gets an error."""
        self._is_closed = True
        self._keeper.clear(CLOSED)
        if self._watch is not None:
            await self._watch.close()
        self._channels.close()
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._options.target!r})"

    async def _ask(self, install: str, within: Seconds) -> Token:
        self._refuse_if_unusable()
        token, flight, begins = self._keeper.ask(install, self._clock())
        if flight is not None and begins:
            self._spawn(self._fly(flight, trace()))
        if token is not None:
            return token
        assert flight is not None, "no token, and nothing to wait for"  # noqa: S101 - see Step
        try:
            async with asyncio.timeout(within):
                outcome = await asyncio.shield(flight.landing)
        except TimeoutError:
            raise GIVEN_UP.error() from None
        if isinstance(outcome, Failure):
            raise outcome.error()
        return outcome

    async def _fly(self, flight: _TokenFlight, traced: Metadata) -> None:
        """Makes the call of a flight. It belongs to no caller."""
        again = True
        while again:
            outcome = await self._get_token(flight.install, traced)
            again = self._keeper.land(flight, outcome, self._clock())

    async def _get_token(self, install: str, traced: Metadata) -> Outcome:
        try:
            answer = await self._link().stub.GetToken(
                self._wire.get_token(install),
                timeout=self._options.timeout,
                metadata=self._metadata(traced),
            )
        except grpc.aio.AioRpcError as error:
            return failure_of(error)
        except Exception as error:  # noqa: BLE001 - nobody above could tell those who wait
            return not_made(error)
        return self._wire.token_of(answer, install, self._clock())

    def _link(self) -> _Link:
        return self._channels.current(self._clock())

    def _open(self, material: Material | None) -> _Link:
        target = self._options.target
        if material is None:
            channel = grpc.aio.insecure_channel(target, options(target))
        else:
            channel = grpc.aio.secure_channel(target, material.channel_credentials(), options(target))
        return _Link(channel, TokenBrokerStub(channel))

    def _close_link(self, link: _Link) -> None:
        self._spawn(link.channel.close())

    def _open_watch(self) -> AsyncWatchCall:
        return self._link().stub.WatchTokens(metadata=self._metadata(()))

    def _metadata(self, traced: Metadata) -> Metadata:
        return traced + identity(self._proofs.bearer())

    def _refuse_if_unusable(self) -> None:
        if self._is_closed:
            raise RuntimeError("the client is closed")
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RuntimeError("the client belongs to another event loop")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _new_landing() -> asyncio.Future[Outcome]:
    return asyncio.get_running_loop().create_future()
