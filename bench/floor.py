"""The floor: bare grpcio servers that answer GetToken with as many bytes and do nothing for it.

`python -m bench.floor --kind aio` prints its port on stdout when it is ready, and
ends on SIGTERM. Each kind counts the calls it got, and `/floor.Floor/Count` tells: a check on the generator.
"""

import argparse
import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bench.load import GET_TOKEN
from bench.tls import Tls
from tokenbroker.v1.token_broker_pb2 import GetTokenRequest, GetTokenResponse

SYNC_THREADS = 16
STRING_FIELD_OVERHEAD_BYTES = 3  # tag, and a length above 127
ANY_FREE_PORT = "127.0.0.1:0"
COUNT = "/floor.Floor/Count"
STOP_GRACE_SECONDS = 0.5


class Kind(StrEnum):
    """The bare servers; `READY_MADE` neither parses nor serialises."""

    AIO = "aio"
    AIO_UVLOOP = "aio-uvloop"
    SYNC = "sync"
    READY_MADE = "ready-made"


def answer(reply_bytes: int) -> GetTokenResponse:
    """An answer of the broker's shape, and of that size to within a byte."""
    reply = GetTokenResponse(
        token_type="Bearer",  # noqa: S106 - the type of a token (RFC 6750)
        expires_in=Duration(seconds=86_399, nanos=123_456_789),
        expire_time=Timestamp(seconds=1_800_000_000, nanos=123_456_789),
        generation=7,
        plugin_id="4321",
        install_id="1234567",
        company_id="98765",
    )
    reply.access_token = "t" * max(reply_bytes - reply.ByteSize() - STRING_FIELD_OVERHEAD_BYTES, 1)
    return reply


def handlers(kind: Kind, reply_bytes: int) -> tuple[grpc.GenericRpcHandler, ...]:
    """GetToken as that kind of server answers it, and Count."""
    reply = answer(reply_bytes)
    ready_made = reply.SerializeToString()
    calls, asked = count(), count()  # next() is atomic for threads too

    def get_token_sync(_request: GetTokenRequest, _context: object) -> GetTokenResponse:
        next(calls)
        return reply

    async def get_token_aio(_request: GetTokenRequest, _context: object) -> GetTokenResponse:
        next(calls)
        return reply

    async def get_token_ready_made(_request: bytes, _context: object) -> bytes:
        next(calls)
        return ready_made

    def tell_count(_request: bytes, _context: object) -> bytes:
        return str(next(calls) - next(asked)).encode()  # the one way to read a count advances it

    get_token: grpc.RpcMethodHandler[Any, Any]
    if kind is Kind.READY_MADE:
        get_token = grpc.unary_unary_rpc_method_handler(get_token_ready_made)
    else:
        get_token = grpc.unary_unary_rpc_method_handler(
            get_token_sync if kind is Kind.SYNC else get_token_aio,
            request_deserializer=GetTokenRequest.FromString,
            response_serializer=GetTokenResponse.SerializeToString,
        )
    return _service(GET_TOKEN, get_token), _service(COUNT, grpc.unary_unary_rpc_method_handler(tell_count))


def _service(path: str, handler: Any) -> grpc.GenericRpcHandler:
    _, service, method = path.split("/")
    return grpc.method_handlers_generic_handler(service, {method: handler})


async def serve_aio(kind: Kind, reply_bytes: int, tls: Tls | None) -> None:
    """Serves on this thread's loop until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers(kind, reply_bytes))
    port = listen(server, tls)
    await server.start()
    announce(port)
    await stop.wait()
    await server.stop(STOP_GRACE_SECONDS)


def serve_sync(reply_bytes: int, tls: Tls | None) -> None:
    """Serves with a pool of threads until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = grpc.server(ThreadPoolExecutor(SYNC_THREADS))
    server.add_generic_rpc_handlers(handlers(Kind.SYNC, reply_bytes))
    port = listen(server, tls)
    server.start()
    announce(port)
    signal.sigwait({signal.SIGTERM})
    server.stop(STOP_GRACE_SECONDS).wait()


def listen(server: grpc.Server | grpc.aio.Server, tls: Tls | None) -> int:
    """Opens a port, and returns it."""
    if tls is None:
        return server.add_insecure_port(ANY_FREE_PORT)
    return server.add_secure_port(ANY_FREE_PORT, tls.server_credentials())


def announce(port: int) -> None:
    """The line that `bench.processes.start` waits for."""
    print(port, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__)
    parser.add_argument("--kind", type=Kind, choices=list(Kind), required=True)
    parser.add_argument("--reply-bytes", type=int, required=True)
    parser.add_argument(
        "--tls", type=Path, metavar="FOLDER", help="with the server's certificate (bench.tls)"
    )
    parser.add_argument("--mutual", action="store_true", help="callers must show a certificate")
    arguments = parser.parse_args()
    tls = Tls(arguments.tls, arguments.mutual) if arguments.tls else None
    match arguments.kind:
        case Kind.SYNC:
            serve_sync(arguments.reply_bytes, tls)
        case Kind.AIO:
            asyncio.run(serve_aio(arguments.kind, arguments.reply_bytes, tls))
        case _:
            uvloop.run(serve_aio(arguments.kind, arguments.reply_bytes, tls))


if __name__ == "__main__":
    main()
