"""A broker that answers as a test says, by a real gRPC server."""
# ruff: noqa: N802 - a servicer's methods are named as the RPCs

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from tokenbroker.v1 import token_broker_pb2 as pb
from tokenbroker.v1 import token_broker_pb2_grpc

INSTALL: Final = "1000000"
COMPANY: Final = "100000"
LIFE: Final = 1000.0
# A test that waits longer has failed.
PATIENCE: Final = 10.0
THREADS: Final = 32


def duration(seconds: float) -> Duration:
    """As a message."""
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def details(reason: str, *, domain: str = "tokenbroker.v1", retry_after: float | None = None) -> bytes:
    """A google.rpc.Status as the broker sends it."""
    status = status_pb2.Status(message="said the broker")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    if retry_after is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration(retry_after)))
    return bytes(status.SerializeToString())


@dataclass
class Refusal:
    """How calls end, for as long as `times` lasts."""

    code: grpc.StatusCode
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    times: float = float("inf")


def refusal(
    code: grpc.StatusCode, reason: str, *, times: float = float("inf"), retry_after: float | None = None
) -> Refusal:
    """One that says why."""
    return Refusal(code, (("grpc-status-details-bin", details(reason, retry_after=retry_after)),), times)


@dataclass
class Held:
    """Calls that wait."""

    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    opened: threading.Event = field(default_factory=threading.Event)

    def wait_for_one(self) -> None:
        """Until a call has come that has not been waited for."""
        assert self.arrived.acquire(timeout=PATIENCE), "no call came"


class Stream:
    """A call of WatchTokens. `asked`: what the client sent."""

    def __init__(self, context: Any) -> None:
        self.asked: SimpleQueue[pb.WatchTokensRequest] = SimpleQueue()
        self.ended = threading.Event()
        self._events: SimpleQueue[pb.WatchTokensResponse | None] = SimpleQueue()
        context.add_callback(self._end)

    def request(self) -> pb.WatchTokensRequest:
        """The next that the client sent."""
        return self.asked.get(timeout=PATIENCE)

    def send(self, **event: Any) -> None:
        """Tell something."""
        self._events.put(pb.WatchTokensResponse(**event))

    def close(self) -> None:
        """End it, OK."""
        self._events.put(None)

    def events(self) -> Iterator[pb.WatchTokensResponse]:
        """What is told, until it ends."""
        while (event := self._events.get()) is not None:
            yield event

    def _end(self) -> None:
        self.ended.set()
        self.close()


class FakeBroker(token_broker_pb2_grpc.TokenBrokerServicer):
    """Attributes: calls: each that came, as RPC and metadata. generation: of the tokens that are handed out."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str | bytes]]] = []
        self.generation = 1
        self.life = LIFE
        self.cools_down = False
        self.refuses: Refusal | None = None
        self.refuses_reports: Refusal | None = None
        self.held: Held | None = None
        self.port = 0
        self.streams: SimpleQueue[Stream] = SimpleQueue()

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"ipv4:127.0.0.1:{self.port}"

    def count(self, rpc: str = "GetToken") -> int:
        """How many calls of an RPC came."""
        return sum(name == rpc for name, _ in self.calls)

    def hold(self) -> Held:
        """From now on calls wait."""
        self.held = Held()
        return self.held

    def token(self, install: str, generation: int | None = None) -> pb.GetTokenResponse:
        """What it hands out."""
        generation = self.generation if generation is None else generation
        return pb.GetTokenResponse(
            access_token=token_value(install, generation),
            token_type="Bearer",
            expires_in=duration(self.life),
            generation=generation,
            install_id=install,
            company_id=COMPANY,
        )

    def stream(self) -> Stream:
        """The next stream that a client opens."""
        return self.streams.get(timeout=PATIENCE)

    def GetToken(self, request: pb.GetTokenRequest, context: Any) -> pb.GetTokenResponse:
        """The answer is what holds when the call comes, however long it is held."""
        self._note("GetToken", context)
        answer = self.token(request.install_id)
        if (held := self.held) is not None:
            held.arrived.release()
            assert held.opened.wait(PATIENCE)
        self._refuse(self.refuses, context)
        return answer

    def ReportRejectedToken(
        self, request: pb.ReportRejectedTokenRequest, context: Any
    ) -> pb.ReportRejectedTokenResponse:
        """The next generation is there at once, unless it `cools_down`."""
        self._note("ReportRejectedToken", context)
        self._refuse(self.refuses_reports, context)
        if request.generation == self.generation and not self.cools_down:
            self.generation += 1
        return pb.ReportRejectedTokenResponse(generation=self.generation)

    def WatchTokens(
        self, request_iterator: Iterator[pb.WatchTokensRequest], context: Any
    ) -> Iterator[pb.WatchTokensResponse]:
        """A stream is a test's to play."""
        self._note("WatchTokens", context)
        stream = Stream(context)
        threading.Thread(target=_listen, args=(stream, request_iterator), daemon=True).start()
        self.streams.put(stream)
        return stream.events()

    def BatchGetTokens(self, request: object, context: object) -> NoReturn:
        """Clients don't call it."""
        raise NotImplementedError

    def AcceptRouteWebhook(self, request: object, context: object) -> NoReturn:
        """Clients don't call it."""
        raise NotImplementedError

    def _note(self, rpc: str, context: Any) -> None:
        self.calls.append((rpc, dict(context.invocation_metadata())))

    def _refuse(self, how: Refusal | None, context: Any) -> None:
        if how is not None and how.times > 0:
            how.times -= 1
            context.set_trailing_metadata(how.trailers)
            context.abort(how.code, "said the broker")


def token_value(install: str, generation: int) -> str:
    """The token of an install, as nobody else's looks."""
    return f"secret-of-{install}-{generation}"


@contextmanager
def serving(broker: FakeBroker, credentials: grpc.ServerCredentials | None = None) -> Iterator[FakeBroker]:
    """Where it listened before, if it did."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    token_broker_pb2_grpc.add_TokenBrokerServicer_to_server(broker, server)
    address = f"127.0.0.1:{broker.port}"
    if credentials is None:
        broker.port = server.add_insecure_port(address)
    else:
        broker.port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield broker
    finally:
        if broker.held is not None:
            broker.held.opened.set()
        server.stop(None).wait(PATIENCE)


def _listen(stream: Stream, requests: Iterator[pb.WatchTokensRequest]) -> None:
    try:
        for request in requests:
            stream.asked.put(request)
    except Exception:  # noqa: BLE001 - grpc raises a bare one when the call ends
        stream.ended.set()
