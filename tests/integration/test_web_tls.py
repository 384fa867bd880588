"""TLS of the operations port, from files that change while it serves; and whom a connection's certificate names."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from broker.web.peer_names import names_shown
from broker.web.server import HttpServer, listen, web_config
from broker.web.tls import LOOK_INTERVAL, HttpTlsFiles, NewestTls
from tests.certificates_of_callers import Issued, issue
from tests.fakes.clock import FakeClock

SPIFFE_ID = "spiffe://envoy.example/ns/visitors/sa/on-call"
OLD, NEW = trustme.CA(), trustme.CA()


async def tell_names(request: Request) -> Response:
    """Who asks."""
    return JSONResponse(names_shown(request))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The server's files, of the old authority."""
    issue(OLD, "localhost").write(tmp_path)
    OLD.cert_pem.write_to_path(tmp_path / "ca.crt")
    return tmp_path


@asynccontextmanager
async def served(folder: Path, clock: FakeClock) -> AsyncIterator[str]:
    """The URL of a server that tells who asks."""
    files = HttpTlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
    app = Starlette(routes=[Route("/", tell_names)])
    config = web_config(app, drain_seconds=1, tls=NewestTls(files, clock.now).context)
    server = HttpServer(config, listen("127.0.0.1", 0))
    server.start()
    try:
        yield f"https://localhost:{server.port}/"
    finally:
        await server.stop()


async def names_seen(
    url: str, authority: trustme.CA, folder: Path, caller: Issued | None = None
) -> list[str]:
    """Whom the server takes a client for that trusts the authority, over a connection of its own."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if caller is not None:
        caller.write(folder)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        names: list[str] = (await client.get(url)).json()
        return names


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A folder for a client's files."""
    (tmp_path / "client").mkdir()
    return tmp_path / "client"


async def test_verified_certificate_names_who_asks(folder: Path, client: Path) -> None:
    """In gRPC's order: URIs first. Who shows none is nobody."""
    caller = issue(OLD, "on-call.example", SPIFFE_ID)
    async with served(folder, FakeClock()) as url:
        assert await names_seen(url, OLD, client, caller) == [SPIFFE_ID, "on-call.example"]
        assert await names_seen(url, OLD, client) == []


async def test_certificate_of_another_authority_is_refused(folder: Path, client: Path) -> None:
    """Whoever could vouch for themselves could be anybody."""
    async with served(folder, FakeClock()) as url:
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            await names_seen(url, OLD, client, issue(NEW, SPIFFE_ID))


async def test_new_files_are_served_without_a_restart(folder: Path, client: Path) -> None:
    """Certificates live for hours; and a removed authority vouches for nobody any more."""
    clock, caller = FakeClock(), issue(OLD, SPIFFE_ID)
    async with served(folder, clock) as url:
        assert await names_seen(url, OLD, client, caller) == [SPIFFE_ID]
        issue(NEW, "localhost").write(folder)
        NEW.cert_pem.write_to_path(folder / "ca.crt")
        clock.advance(LOOK_INTERVAL)
        assert await names_seen(url, NEW, client, issue(NEW, SPIFFE_ID)) == [SPIFFE_ID]
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            await names_seen(url, NEW, client, caller)


async def test_pair_half_written_is_not_served(folder: Path, client: Path) -> None:
    """What stood before goes on, and the log says so, once."""
    clock = FakeClock()
    async with served(folder, clock) as url:
        (folder / "tls.crt").write_bytes(issue(OLD, "localhost").certificate)
        with capture_logs() as logs:
            for _ in range(2):
                clock.advance(LOOK_INTERVAL)
                assert await names_seen(url, OLD, client) == []
    assert [line["event"] for line in logs] == ["web.tls_files_refused"]
