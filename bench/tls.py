"""TLS for contestants: one folder with the certificates of both sides, as the sandbox makes them."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from broker.sandbox.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from broker.sandbox.secured import SERVICE

SERVER = "broker"  # whose folder has the server's certificate
ALPN_HTTP2 = "h2"  # RFC 9113 3.2


@dataclass(frozen=True)
class Tls:
    """How a server and those who call it meet.

    Attributes:
        folder: what `broker.sandbox.secured.secure` has filled.
        mutual: whether callers must show a certificate, and do.
    """

    folder: Path
    mutual: bool

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a bare server."""
        pair = self._read(SERVER, KEY_FILE), self._read(SERVER, CERTIFICATE_FILE)
        authorities = self._read(SERVER, CA_FILE) if self.mutual else None
        return grpc.ssl_server_credentials([pair], authorities, self.mutual)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For grpcio's own client."""
        shown = (
            (self._read(SERVICE, KEY_FILE), self._read(SERVICE, CERTIFICATE_FILE))
            if self.mutual
            else (None, None)
        )
        return grpc.ssl_channel_credentials(self._read(SERVICE, CA_FILE), *shown)

    def client_context(self) -> ssl.SSLContext:
        """For the load generator."""
        context = ssl.create_default_context(cafile=self._path(SERVICE, CA_FILE))
        context.set_alpn_protocols([ALPN_HTTP2])
        if self.mutual:
            context.load_cert_chain(self._path(SERVICE, CERTIFICATE_FILE), self._path(SERVICE, KEY_FILE))
        return context

    def _path(self, side: str, name: str) -> Path:
        return self.folder / side / name

    def _read(self, side: str, name: str) -> bytes:
        return self._path(side, name).read_bytes()


@dataclass(frozen=True)
class Door:
    """How callers get in: through TLS, or in the clear without. `metadata` goes with each of their calls."""

    tls: Tls | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def channel(self, address: str) -> grpc.aio.Channel:
        """A channel of grpcio's own client."""
        if self.tls is None:
            return grpc.aio.insecure_channel(address)
        return grpc.aio.secure_channel(address, self.tls.channel_credentials())


IN_THE_CLEAR = Door()
