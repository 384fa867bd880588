"""Envoy's API, as far as a 401 goes: a real HTTP server."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final, NamedTuple

REDIRECT: Final = 307


class Seen(NamedTuple):
    """A request that came. authorization: "" if it had none."""

    authorization: str
    body: bytes


class FakeEnvoy:
    """Attributes: answers: the statuses to come; then 200. seen: what came. redirects_to: where a 307 leads."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.answers: list[int] = []
        self.seen: list[Seen] = []
        self.redirects_to = self.url

    @property
    def url(self) -> str:
        """Something to ask for."""
        return f"{self.origin}/api/v3/companies/100000"


@contextmanager
def serving_envoy() -> Iterator[FakeEnvoy]:
    """On a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = self.headers.get("content-length")
            body = self.rfile.read(int(length)) if length else self._chunks()
            envoy.seen.append(Seen(self.headers.get("authorization", ""), body))
            status = envoy.answers.pop(0) if envoy.answers else 200
            self.send_response(status)
            if status == REDIRECT:
                self.send_header("location", envoy.redirects_to)
            self.send_header("content-length", "0")
            self.end_headers()

        def _chunks(self) -> bytes:
            body = b""
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        envoy = FakeEnvoy(f"http://127.0.0.1:{server.server_address[1]}")
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield envoy
        finally:
            server.shutdown()
