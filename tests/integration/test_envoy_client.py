"""The Envoy client against real servers: what it sends, and how it tells "nothing sent" from "nobody knows"."""

import asyncio
import contextlib
import gzip
import socket
from datetime import timedelta

import pytest

from broker.adapters.envoy.client import MAX_ANSWER_BYTES, EnvoyClient
from broker.domain.errors import Limited, NotSent, OutcomeUnknown
from broker.domain.secret import Secret
from tests.integration.envoy_calls import CLOCK, PAIR, SHORT, answer_pair, client, fault, refresh
from tests.integration.scripted_server import Connection, Script, scripted


async def read_and_be_silent(connection: Connection) -> None:
    """Takes the request, and never answers."""
    await connection.request()
    await connection.over.wait()


async def test_pair_counts_from_before_the_request() -> None:
    """Else a slow answer would make a token look younger than it is (F39)."""
    before = CLOCK.now()
    answered_at = []

    async def script(connection: Connection) -> None:
        await connection.request()
        answered_at.append(CLOCK.now())
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PAIR), PAIR))

    async with scripted(script) as server:
        issued = await refresh(client(server.port))
    assert issued.access_token == Secret("access-token-0001")
    assert before <= issued.requested_at <= answered_at[0]


async def test_request_asks_for_nothing_packed_and_says_who_it_is() -> None:
    """A packed answer could grow in memory beyond the bound on its size."""
    async with scripted(answer_pair) as server:
        await refresh(client(server.port))
    head = server.requests[0].partition(b"\r\n\r\n")[0].decode().lower()
    assert head.startswith("post /oauth2/token http/1.1")
    for line in ("accept-encoding: identity", "user-agent: envoy-token-broker/", "accept: application/json"):
        assert f"\r\n{line}" in head


async def test_no_connection_is_used_twice() -> None:
    """On a kept one, the server's closing it could cross a request, and cost a refresh token."""

    async def answer_all(connection: Connection) -> None:
        await connection.answer(200, PAIR)
        await connection.answer(200, PAIR)

    async with scripted(answer_all) as server:
        endpoint = client(server.port)
        await refresh(endpoint)
        await refresh(endpoint)
        assert server.connections == 2


async def test_refused_connection_is_not_sent() -> None:
    """The commonest outage must not cost the refresh token."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert await fault(client(port)) == (NotSent, "connect_failed")


async def test_f14_black_holed_connect_is_bounded_and_not_sent() -> None:
    """Packets that vanish must hold an attempt no longer than the limit for connecting."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # Linux drops what comes when this queue is full
            filler = fillers.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        endpoint = client(listener.getsockname()[1], connect_limit=SHORT)
        assert await fault(endpoint) == (NotSent, "connect_timeout")


async def test_deadline_in_the_past_sends_nothing() -> None:
    """A claim that has run out must not be used (P1)."""
    async with scripted(answer_pair) as server:
        assert await fault(client(server.port), timedelta(0)) == (NotSent, "deadline_passed")
        assert server.connections == 0


async def test_f02_silence_after_the_request_ends_at_the_deadline_as_unknown() -> None:
    """Envoy may have rotated: the refresh token must not be presented again."""
    async with scripted(read_and_be_silent) as server:
        assert await fault(client(server.port), SHORT) == (OutcomeUnknown, "timeout")


async def test_endless_interim_answers_end_at_the_deadline() -> None:
    """Each read succeeds, so only a limit on the whole call ends this one."""

    async def keep_busy(connection: Connection) -> None:
        await connection.request()
        while not connection.over.is_set():
            await connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")

    async with scripted(keep_busy) as server:
        assert await fault(client(server.port), SHORT) == (OutcomeUnknown, "timeout")


async def cut_before_reading(connection: Connection) -> None:
    """Closes at once; whether the request was read, its sender can't know."""
    del connection


async def cut_after_reading(connection: Connection) -> None:
    """Takes the request, and closes."""
    await connection.request()


async def cut_in_the_answer(connection: Connection) -> None:
    """Closes after a part of what was announced."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + PAIR)


async def speak_another_protocol(connection: Connection) -> None:
    """Takes the request, and answers in no HTTP."""
    await connection.request()
    await connection.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


@pytest.mark.parametrize(
    "script", [cut_before_reading, cut_after_reading, cut_in_the_answer, speak_another_protocol]
)
async def test_f02_whatever_breaks_once_sending_began_is_unknown(script: Script) -> None:
    """Written bytes may have been read; so nothing that follows them is "not sent"."""
    async with scripted(script) as server:
        kind_of_fault, _ = await fault(client(server.port))
    assert kind_of_fault is OutcomeUnknown


async def test_f03_huge_answer_is_dropped_at_the_bound() -> None:
    """Memory stays bounded, and the rest of the answer is not waited for."""
    sent = 0

    async def flood(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not connection.over.is_set():
            await connection.send(b" " * MAX_ANSWER_BYTES)
            sent += MAX_ANSWER_BYTES

    async with scripted(flood) as server:
        assert await fault(client(server.port)) == (OutcomeUnknown, "answer_too_large")
    assert sent < 512 * MAX_ANSWER_BYTES


async def test_f03_packed_answer_is_not_unpacked() -> None:
    """We did not ask for one; a small body could unpack to gigabytes."""

    async def pack(connection: Connection) -> None:
        await connection.answer(200, gzip.compress(PAIR), "Content-Encoding: gzip")

    async with scripted(pack) as server:
        assert (await fault(client(server.port)))[0] is OutcomeUnknown


async def test_f13_redirect_is_not_followed() -> None:
    """It would carry the client secret to wherever the answer says."""

    async def redirect(connection: Connection) -> None:
        await connection.answer(307, b"", "Location: /elsewhere", "Set-Cookie: session=1")

    async with scripted(redirect) as server:
        assert await fault(client(server.port)) == (OutcomeUnknown, "redirect")
        assert server.connections == 1


async def test_f13_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can set a variable could read the client secret."""
    async with scripted(answer_pair) as envoy, scripted(answer_pair) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await refresh(client(envoy.port))
        assert (envoy.connections, proxy.connections) == (1, 0)


async def test_f09_limit_does_not_wait_for_its_body() -> None:
    """The status says that nothing was spent; a body that never ends must not make that unknown."""

    async def limit(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 99\r\n\r\n{")
        await connection.over.wait()

    async with scripted(limit) as server:
        with pytest.raises(Limited) as caught:
            await refresh(client(server.port))
    assert caught.value.retry_after == timedelta(seconds=7)


async def test_f22_calls_cut_off_leave_room_for_the_next() -> None:
    """The pool of httpx lost a slot for each; then nobody got a token until a restart."""
    silent = True

    async def wake_up(connection: Connection) -> None:
        await connection.request()
        if silent:
            await connection.over.wait()
        else:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PAIR), PAIR))

    async with scripted(wake_up) as server:
        endpoint = client(server.port)
        calls = [asyncio.create_task(refresh(endpoint, SHORT)) for _ in range(100)]
        await server.arrived.wait()
        for call in calls[::2]:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ends} <= {asyncio.CancelledError, OutcomeUnknown, NotSent}
        silent = False
        await asyncio.gather(*(refresh(endpoint) for _ in range(20)))


def test_f13_plain_http_to_another_machine_is_refused_at_once() -> None:
    """Configuration checks it too; this is the last door before the secret leaves."""
    with pytest.raises(ValueError, match="https"):
        EnvoyClient("http://api.envoy.com/oauth2/token", clock=CLOCK)
