"""Client: a valid token, mostly out of memory, for programs of threads.

A FRESH token costs a look into a dict, and takes no lock. All else is decided by the Keeper under one lock that is never
held while anything is waited for; calls are gRPC's own futures, so no thread waits for one but those who need the token.

A process that forks: neither gRPC's threads nor its channels live on in the child, where a call would wait without an end.
A client that has not called yet may be forked (gunicorn's `preload_app`); one that has refuses to serve in the child.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import grpc

from tokenbroker.client.channels import Channels, options
from tokenbroker.client.credentials import Credentials, Material, Proofs
from tokenbroker.client.errors import CLOSED, GIVEN_UP, Failure, not_made
from tokenbroker.client.keeper import Flight, Keeper, Outcome
from tokenbroker.client.memory import Memory
from tokenbroker.client.options import MAX_AGE, MAX_INSTALLS, TIMEOUT, Options, checked_install
from tokenbroker.client.statuses import failure_of
from tokenbroker.client.token import Seconds, Token
from tokenbroker.client.watch import Watch, WatchCall
from tokenbroker.client.wire import Metadata, Wire, identity, trace
from tokenbroker.v1.token_broker_pb2 import GetTokenResponse, WatchTokensRequest
from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerStub

_TokenFlight = Flight[Future[Outcome]]


class _Link(NamedTuple):
    channel: grpc.Channel
    stub: TokenBrokerStub


class Client:
    """Hands out valid access tokens of Envoy's. Safe for threads; one for a process is enough. Close it, or use `with`.

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
        self._channels = Channels(self._proofs, timeout, self._open, _close)
        memory = Memory(max_age=max_age, max_installs=max_installs)
        self._entries = memory.entries
        self._keeper: Keeper[Future[Outcome]] = Keeper(memory, Future)
        self._is_closed = False
        self._is_cut_off = False
        self._reset_locks()
        self._watch = Watch(self._keeper, self._wire, self._open_watch, self._lock, clock) if watch else None
        _clients.add(self)

    def token(self, install: str, *, timeout: Seconds | None = None) -> Token:
        """A token of the install that may be used now.

        Args:
            install: its id.
            timeout: seconds that this caller waits; the client's own if left out. The call goes on for others.

        Raises:
            TokenBrokerError: there is none; its reason says why.
            RuntimeError: the client is closed, or is another process's.
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
        return self._ask(checked_install(install), self._options.timeout if timeout is None else timeout)

    def reject(self, token: Token) -> None:
        """Tells the broker that Envoy answered 401 to this token, and forgets it. The adapters do that by themselves.

        Nothing is done if a newer one is in memory.

        Raises:
            TokenBrokerError: the broker could not be told; the token stays, unless it must not be used anyway.
            RuntimeError: the client is closed, or is another process's.
        """
        with self._lock:
            self._refuse_if_unusable()
            if self._keeper.knows_newer(token, self._clock()):
                return
        try:
            self._link().stub.ReportRejectedToken(
                self._wire.report(token), timeout=self._options.timeout, metadata=self._metadata(trace())
            )
        except grpc.RpcError as error:
            failure = failure_of(error)
            with self._lock:
                self._keeper.memory.failed(token.install_id, failure, self._clock())
            raise failure.error() from error
        with self._lock:
            self._keeper.rejected(token)

    def close(self) -> None:
        """Forgets all tokens, and ends all calls. Whoever waits for one gets an error."""
        with self._lock:
            self._is_closed = True
            self._keeper.clear(CLOSED)
        if self._watch is not None:
            self._watch.close()
        with self._channels_lock:
            self._channels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._options.target!r})"

    def _ask(self, install: str, timeout: Seconds) -> Token:
        with self._lock:
            self._refuse_if_unusable()
            token, flight, begins = self._keeper.ask(install, self._clock())
        if flight is not None and begins:
            self._begin(flight, trace())
        if token is not None:
            return token
        assert flight is not None, "no token, and nothing to wait for"  # noqa: S101 - see Step
        try:
            outcome = flight.landing.result(timeout)
        except TimeoutError:
            raise GIVEN_UP.error() from None
        if isinstance(outcome, Failure):
            raise outcome.error()
        return outcome

    def _begin(self, flight: _TokenFlight, traced: Metadata) -> None:
        """Makes the call of a flight. It belongs to no thread."""
        try:
            call = self._link().stub.GetToken.future(
                self._wire.get_token(flight.install),
                timeout=self._options.timeout,
                metadata=self._metadata(traced),
            )
            call.add_done_callback(partial(self._ended, flight, traced))
        except BaseException as error:
            # Else all who ask for the install would wait for a call that nobody has made.
            self._land(flight, not_made(error), traced)
            if not isinstance(error, Exception):
                raise

    def _ended(self, flight: _TokenFlight, traced: Metadata, call: "grpc.Future[GetTokenResponse]") -> None:
        """Runs on a thread of gRPC's."""
        outcome: Outcome
        try:
            outcome = self._wire.token_of(call.result(), flight.install, self._clock())
        except grpc.RpcError as error:
            outcome = failure_of(error)
        except grpc.FutureCancelledError:
            outcome = CLOSED
        except Exception as error:  # noqa: BLE001 - nobody above could tell those who wait
            outcome = not_made(error)
        self._land(flight, outcome, traced)

    def _land(self, flight: _TokenFlight, outcome: Outcome, traced: Metadata) -> None:
        with self._lock:
            again = self._keeper.land(flight, outcome, self._clock())
        if again:
            self._begin(flight, traced)

    def _link(self) -> _Link:
        with self._channels_lock:
            if self._is_closed:
                raise RuntimeError("the client is closed")
            return self._channels.current(self._clock())

    def _open(self, material: Material | None) -> _Link:
        target = self._options.target
        if material is None:
            channel = grpc.insecure_channel(target, options(target))
        else:
            channel = grpc.secure_channel(target, material.channel_credentials(), options(target))
        return _Link(channel, TokenBrokerStub(channel))

    def _open_watch(self, requests: Iterator[WatchTokensRequest]) -> WatchCall:
        return self._link().stub.WatchTokens(requests, metadata=self._metadata(()))

    def _metadata(self, traced: Metadata) -> Metadata:
        return traced + identity(self._proofs.bearer())

    def _refuse_if_unusable(self) -> None:
        if self._is_closed:
            raise RuntimeError("the client is closed")
        if self._is_cut_off:
            raise RuntimeError("the client has called before this process was forked: ask it afterwards only")

    def _reset_locks(self) -> None:
        self._lock = threading.Lock()
        self._channels_lock = threading.Lock()

    def _after_fork_in_child(self) -> None:
        """Threads, and whoever held a lock, are gone."""
        self._reset_locks()
        self._keeper.drop_flights()
        if self._channels.is_open:
            # At once, and not only when the first token is stale.
            self._is_cut_off = True
            self._keeper.memory.clear()
            self._channels.abandon()
        if self._watch is not None:
            self._watch.after_fork_in_child(self._lock)


def _close(link: _Link) -> None:
    link.channel.close()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._after_fork_in_child()  # noqa: SLF001 - this module's own class


_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork_in_child)
