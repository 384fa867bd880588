"""A real gRPC server behind broker/api/tls.py, which tells each caller its name; and callers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import trustme

from broker.api.certificate_names import certificate_names
from broker.api.tls import ServerTls, TlsFile, TlsFiles
from tests.certificates_of_callers import Issued

METHOD = "/test.Who/AmI"
SOON_SECONDS = 10
SETTING = "TOKEN_BROKER_TLS_"


def tls_files(folder: Path, *, mutual: bool = True) -> TlsFiles:
    """The files as Kubernetes would name them."""
    return TlsFiles(
        TlsFile(f"{SETTING}CERTIFICATE", folder / "tls.crt"),
        TlsFile(f"{SETTING}KEY", folder / "tls.key"),
        TlsFile(f"{SETTING}CLIENT_CA", folder / "ca.crt") if mutual else None,
    )


async def _tell_names(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return "\n".join(certificate_names(context.auth_context())).encode()


@asynccontextmanager
async def served(tls: ServerTls) -> AsyncIterator[str]:
    """The address of a server with these credentials."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: Any = grpc.unary_unary_rpc_method_handler(_tell_names)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Who", {"AmI": handler}),))
    port = server.add_secure_port("127.0.0.1:0", tls.credentials())
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(None)


async def names_seen(address: str, trust: trustme.CA | bytes, caller: Issued | None = None) -> list[str]:
    """Who the server says that a new connection's caller is.

    Raises:
        grpc.aio.AioRpcError: UNAVAILABLE, if either side does not believe the other.
    """
    roots = trust if isinstance(trust, bytes) else trust.cert_pem.bytes()
    credentials = grpc.ssl_channel_credentials(
        roots, caller.key if caller else None, caller.certificate if caller else None
    )
    # Connections are shared between channels otherwise, and this one would not be new.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        call: Any = channel.unary_unary(METHOD)
        answer: bytes = await call(b"", timeout=SOON_SECONDS)
        return answer.decode().split("\n")


async def is_refused(address: str, trust: trustme.CA | bytes, caller: Issued | None = None) -> bool:
    """Whether the handshake fails."""
    try:
        await names_seen(address, trust, caller)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False
