"""Key sets from files and from real servers: what is believed, what is sent, and how often."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
import trustme

from broker.adapters.identity.bearer_tokens import BearerTokens
from broker.adapters.identity.jwks import KeysNotRead
from broker.adapters.identity.key_set import FILE_TIMING, URL_TIMING, KeySet
from broker.adapters.identity.key_sources import MAX_KEY_SET_BYTES, KeyFile, KeySource, KeyUrl
from broker.adapters.identity.token_verification import TokenTerms
from broker.domain.errors import CallerUnauthenticated
from tests.fakes.clock import FakeClock
from tests.fakes.steps import settled
from tests.integration.scripted_server import Connection, scripted
from tests.tokens_of_callers import AUDIENCE, ISSUER, SUBJECT, Signer, key_set_of

SIGNER = Signer.new()
DOCUMENT = key_set_of(SIGNER.jwk())
SHORT = timedelta(milliseconds=200)


async def answer_keys(connection: Connection) -> None:
    """Answers with the key set, as an API server would."""
    await connection.answer(200, DOCUMENT, "Content-Type: application/jwk-set+json")


async def problem(source: KeySource) -> str:
    """Why no key set came. The error holds no request."""
    with pytest.raises(KeysNotRead) as refused:
        await source.read()
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    return refused.value.kind


def plain(port: int, **options: Path | timedelta) -> KeyUrl:
    """A key set behind http on this machine."""
    return KeyUrl(f"http://127.0.0.1:{port}/openid/v1/jwks", **options)  # type: ignore[arg-type]  # by name


async def why(tokens: BearerTokens, signer: Signer) -> str:
    """Why a token of the signer is refused."""
    with pytest.raises(CallerUnauthenticated) as refused:
        await tokens.subject_of(signer.token())
    return refused.value.why


async def test_f46_flood_of_unknown_kids_does_not_hammer_the_key_endpoint() -> None:
    """1,000 tokens, each with a key id of its own, at once: one request an interval, and good tokens are served."""
    clock = FakeClock()
    async with scripted(answer_keys) as server:
        keys = KeySet(plain(server.port), clock)
        tokens = BearerTokens(TokenTerms(ISSUER, AUDIENCE), keys, clock)
        strangers = [Signer(f"made-up-{number}", SIGNER.algorithm, SIGNER.key) for number in range(1000)]
        assert set(await asyncio.gather(*(why(tokens, stranger) for stranger in strangers))) == {
            "unknown_key"
        }
        assert await tokens.subject_of(SIGNER.token()) == SUBJECT
        assert len(server.requests) == 1
        clock.advance(URL_TIMING.min_interval)
        assert set(await asyncio.gather(*(why(tokens, stranger) for stranger in strangers))) == {
            "unknown_key"
        }
        assert server.connections == len(server.requests) == 2


async def test_f46_failing_key_endpoint_is_not_hammered_either() -> None:
    """It fails because it has too much to do, perhaps."""

    async def fail(connection: Connection) -> None:
        await connection.answer(503, b"")

    clock = FakeClock()
    async with scripted(fail) as server:
        tokens = BearerTokens(TokenTerms(ISSUER, AUDIENCE), KeySet(plain(server.port), clock), clock)
        with structlog.testing.capture_logs() as lines:
            assert {await why(tokens, SIGNER) for _ in range(100)} == {"keys_unavailable"}
        assert server.connections == 1
        assert [line["kind"] for line in lines] == ["status_503"]


async def test_bearer_of_a_file_is_shown_and_read_anew(tmp_path: Path) -> None:
    """The Kubernetes API server asks for one, and Kubernetes renews it."""
    bearer = tmp_path / "token"
    async with scripted(answer_keys) as server:
        source = plain(server.port, bearer_file=bearer)
        for token in ("first", "second"):
            bearer.write_text(f"{token}\n")
            assert await source.read() == DOCUMENT
        assert [
            b"authorization: bearer " + token in request.lower()
            for request, token in zip(server.requests, (b"first", b"second"), strict=True)
        ] == [True, True]
        assert all(request.startswith(b"GET /openid/v1/jwks HTTP/1.1\r\n") for request in server.requests)


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff", "é".encode(), b"a" * 20_000, None])
async def test_bearer_that_is_none_is_not_sent(tmp_path: Path, content: bytes | None) -> None:
    """Nor is a request without it: the file was set for a reason."""
    bearer = tmp_path / "token"
    if content is not None:
        bearer.write_bytes(content)
    async with scripted(answer_keys) as server:
        assert await problem(plain(server.port, bearer_file=bearer)) in {
            "bearer_file_malformed",
            "file_not_read",
            "too_large",
        }
        assert server.connections == 0


async def test_redirect_is_not_followed() -> None:
    """It would lead the bearer, and the trust, to where nobody configured."""
    async with scripted(answer_keys) as elsewhere:

        async def redirect(connection: Connection) -> None:
            await connection.answer(302, b"", f"Location: http://127.0.0.1:{elsewhere.port}/")

        async with scripted(redirect) as server:
            assert await problem(plain(server.port)) == "status_302"
        assert elsewhere.connections == 0


async def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets a variable must not say whom we believe."""
    async with scripted(answer_keys) as proxy, scripted(answer_keys) as server:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        await plain(server.port).read()
        assert (proxy.connections, server.connections) == (0, 1)


async def stream_for_ever(connection: Connection) -> None:
    """An answer without end."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not connection.over.is_set():
        await connection.send(b" " * 65536)


async def be_silent(connection: Connection) -> None:
    """No answer."""
    await connection.over.wait()


async def drip(connection: Connection) -> None:
    """A byte now and then: no time-out of one operation ever ends this."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not connection.over.is_set():
        await connection.send(b" ")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((SHORT / 10).total_seconds()):
                await connection.over.wait()


async def hang_up(connection: Connection) -> None:
    """Gone after the request."""
    await connection.request()


async def answer_nonsense(connection: Connection) -> None:
    """No HTTP."""
    await connection.request()
    await connection.send(b"nonsense\r\n\r\n")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (stream_for_ever, "too_large"),
        (be_silent, "timeout"),
        (drip, "timeout"),
        (hang_up, "connection_lost"),
        (answer_nonsense, "connection_lost"),
    ],
)
async def test_bad_answer_is_bounded(script: Callable[[Connection], Awaitable[None]], kind: str) -> None:
    """In bytes and in time, for the whole of it."""
    limit = SHORT if kind == "timeout" else timedelta(seconds=30)
    async with scripted(script) as server:
        assert await problem(plain(server.port, limit=limit)) == kind


async def test_nobody_listens() -> None:
    """The API server restarts."""
    async with scripted(answer_keys) as server:
        port = server.port
    assert await problem(plain(port)) == "connect_failed"


async def test_key_endpoint_is_believed_by_its_own_authority_alone(tmp_path: Path) -> None:
    """A cluster's API server has a certificate of the cluster's authority, which no public list knows."""
    ours, other = trustme.CA(), trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("localhost").configure_cert(tls)
    ca_file = tmp_path / "ca.crt"
    async with scripted(answer_keys, tls) as server:
        url = f"https://localhost:{server.port}/"
        assert await problem(KeyUrl(url)) == "certificate_refused"
        assert await problem(KeyUrl(url, ca_file=ca_file)) == "ca_file_not_read"
        ca_file.write_bytes(b"no certificate")
        assert await problem(KeyUrl(url, ca_file=ca_file)) == "ca_file_not_read"
        other.cert_pem.write_to_path(ca_file)
        assert await problem(KeyUrl(url, ca_file=ca_file)) == "certificate_refused"
        assert server.requests == []
        ours.cert_pem.write_to_path(ca_file)
        assert await KeyUrl(url, ca_file=ca_file).read() == DOCUMENT


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/",
        "ftp://localhost/",
        "keys.example",
        "https://user@keys.example/",
        "",
        "file:///etc",
    ],
)
def test_url_that_can_not_be_believed_is_refused_at_the_start(url: str) -> None:
    """Keys over plain http are whose who sits on the way."""
    with pytest.raises(ValueError, match="must"):
        KeyUrl(url)


async def test_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Replaced as Kubernetes replaces it, without a restart; a broken one leaves the old keys in use."""
    file, clock, successor = tmp_path / "jwks.json", FakeClock(), Signer.new(kid="key-2")
    file.write_bytes(DOCUMENT)
    tokens = BearerTokens(TokenTerms(ISSUER, AUDIENCE), KeySet(KeyFile(file), clock, FILE_TIMING), clock)
    assert await tokens.subject_of(SIGNER.token()) == SUBJECT
    file.write_bytes(DOCUMENT[:-10])
    clock.advance(FILE_TIMING.min_interval)
    assert await why(tokens, successor) == "unknown_key"
    assert await tokens.subject_of(SIGNER.token()) == SUBJECT
    (tmp_path / "new").write_bytes(key_set_of(successor.jwk()))
    (tmp_path / "new").replace(file)
    clock.advance(FILE_TIMING.min_interval)
    assert await tokens.subject_of(successor.token()) == SUBJECT
    assert await why(tokens, SIGNER) == "unknown_key"


async def test_file_is_bounded_in_bytes_and_in_time(tmp_path: Path) -> None:
    """Missing, far too large, or one that never answers: a pipe that nobody writes to."""
    assert await problem(KeyFile(tmp_path / "absent")) == "file_not_read"
    assert await problem(KeyFile(tmp_path)) == "file_not_read"
    large = tmp_path / "large"
    large.write_bytes(b" " * (MAX_KEY_SET_BYTES + 1))
    assert await problem(KeyFile(large)) == "too_large"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert await problem(KeyFile(pipe, limit=SHORT)) == "timeout"
    # Lets the reading thread go.
    pipe.open("wb").close()
    await settled()
