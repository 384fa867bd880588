"""A TLS server that says nothing, and remembers whatever it is told."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

MAX_BYTES: Final = 65536


@dataclass
class TlsListener:
    """Attributes: heard: what came after each handshake that succeeded."""

    port: int
    heard: list[bytes] = field(default_factory=list)


@contextmanager
def tls_listener(tls: ssl.SSLContext | None) -> Iterator[TlsListener]:
    """Listens until the block ends. Without `tls` it takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = TlsListener(server.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(server, tls, listener.heard))
        thread.start()
        try:
            yield listener
        finally:
            # Wakes whoever waits for a connection; closing alone does not.
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(server: socket.socket, tls: ssl.SSLContext | None, heard: list[bytes]) -> None:
    silent: list[socket.socket] = []
    while True:
        try:
            connection, _address = server.accept()
        except OSError:
            break
        if tls is None:
            silent.append(connection)
            continue
        with connection, suppress(OSError), tls.wrap_socket(connection, server_side=True) as secured:
            heard.append(secured.recv(MAX_BYTES))
    for connection in silent:
        connection.close()
