"""The HTTP adapters, each by its library against a real HTTP server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import grpc
import httpx
import pytest
import requests

from clients.python.tests.askers import Clock
from clients.python.tests.envoy import FakeEnvoy, Seen, serving_envoy
from clients.python.tests.fake_broker import INSTALL, FakeBroker, refusal, token_value
from tokenbroker.client import AsyncClient, Client, Credentials, InstallNotFound
from tokenbroker.client.httpx import AsyncInstallAuth
from tokenbroker.client.httpx import InstallAuth as HttpxAuth
from tokenbroker.client.requests import InstallAuth as RequestsAuth

FIRST = Seen(f"Bearer {token_value(INSTALL, 1)}", b"")
SECOND = Seen(f"Bearer {token_value(INSTALL, 2)}", b"")


class Caller(Protocol):
    """A program that calls Envoy."""

    async def __call__(self, url: str, body: bytes = b"", *, replayable: bool = True) -> int:
        """POST, and the status."""


class ByRequests:
    """A session of requests."""

    def __init__(self, client: Client, origin: str) -> None:
        self._auth = RequestsAuth(client, INSTALL, origin=origin)

    async def __call__(self, url: str, body: bytes = b"", *, replayable: bool = True) -> int:
        """See Caller."""
        return await asyncio.to_thread(self._post, url, body if replayable else iter([body]))

    def _post(self, url: str, data: Any) -> int:
        with requests.Session() as session:
            session.trust_env = False
            return session.post(url, data=data, auth=self._auth, timeout=10).status_code


class ByHttpx:
    """httpx.Client."""

    def __init__(self, client: Client, origin: str) -> None:
        self._auth = HttpxAuth(client, INSTALL, origin=origin)

    async def __call__(self, url: str, body: bytes = b"", *, replayable: bool = True) -> int:
        """See Caller."""
        return await asyncio.to_thread(self._post, url, body if replayable else iter([body]))

    def _post(self, url: str, content: Any) -> int:
        with httpx.Client(auth=self._auth, follow_redirects=True, trust_env=False) as http:
            return http.post(url, content=content).status_code


class ByAsyncHttpx:
    """httpx.AsyncClient."""

    def __init__(self, client: AsyncClient, origin: str) -> None:
        self._auth = AsyncInstallAuth(client, INSTALL, origin=origin)

    async def __call__(self, url: str, body: bytes = b"", *, replayable: bool = True) -> int:
        """See Caller."""
        content = body if replayable else _streamed(body)
        async with httpx.AsyncClient(auth=self._auth, follow_redirects=True, trust_env=False) as http:
            return (await http.post(url, content=content)).status_code


async def _streamed(body: bytes) -> AsyncIterator[bytes]:
    yield body


@pytest.fixture
def envoy() -> Iterator[FakeEnvoy]:
    """Where tokens may go."""
    with serving_envoy() as served:
        yield served


@pytest.fixture
def elsewhere() -> Iterator[FakeEnvoy]:
    """Where they may not."""
    with serving_envoy() as served:
        yield served


@pytest.fixture(params=["requests", "httpx", "async httpx"])
async def call(
    request: pytest.FixtureRequest, broker: FakeBroker, envoy: FakeEnvoy, clock: Clock
) -> AsyncIterator[Caller]:
    """By each library."""
    async with AsyncExitStack() as stack:
        if request.param == "async httpx":
            tasks = AsyncClient(broker.target, credentials=Credentials.insecure(), clock=clock)
            yield ByAsyncHttpx(await stack.enter_async_context(tasks), envoy.origin)
        else:
            threads = Client(broker.target, credentials=Credentials.insecure(), clock=clock)
            stack.callback(threads.close)
            kind = ByRequests if request.param == "requests" else ByHttpx
            yield kind(threads, envoy.origin)


async def test_request_carries_the_token(call: Caller, envoy: FakeEnvoy, broker: FakeBroker) -> None:
    """What people use the client for."""
    assert [await call(envoy.url) for _ in range(2)] == [200, 200]
    assert envoy.seen == [FIRST, FIRST]
    assert broker.count() == 1


async def test_rejected_token_is_reported_and_the_request_sent_once_more(
    call: Caller, envoy: FakeEnvoy, broker: FakeBroker
) -> None:
    """Body and all, and with the newer token."""
    envoy.answers = [401]
    assert await call(envoy.url, b"asked") == 200
    assert envoy.seen == [FIRST._replace(body=b"asked"), SECOND._replace(body=b"asked")]
    assert broker.count("ReportRejectedToken") == 1


async def test_request_is_sent_twice_and_no_more(call: Caller, envoy: FakeEnvoy, broker: FakeBroker) -> None:
    """An API that refuses everything must not be asked for ever."""
    envoy.answers = [401, 401, 401]
    assert await call(envoy.url) == 401
    assert envoy.seen == [FIRST, SECOND]
    assert broker.count("ReportRejectedToken") == 1


async def test_same_generation_is_not_sent_again(call: Caller, envoy: FakeEnvoy, broker: FakeBroker) -> None:
    """What was refused once is refused again."""
    broker.cools_down = True
    envoy.answers = [401]
    assert await call(envoy.url) == 401
    assert envoy.seen == [FIRST]
    assert (broker.count("ReportRejectedToken"), broker.count()) == (1, 2)


async def test_report_that_fails_leaves_the_answer(
    call: Caller, envoy: FakeEnvoy, broker: FakeBroker
) -> None:
    """The caller asked Envoy, and Envoy has answered."""
    broker.refuses_reports = refusal(grpc.StatusCode.INTERNAL, "INTERNAL")
    envoy.answers = [401]
    assert await call(envoy.url) == 401
    assert envoy.seen == [FIRST]


async def test_redirect_after_the_second_sending_is_not_its_third(
    call: Caller, envoy: FakeEnvoy, broker: FakeBroker
) -> None:
    """Twice is twice, wherever the second has been led to."""
    envoy.answers = [401, 307, 401]
    assert await call(envoy.url) == 401
    assert envoy.seen == [FIRST, SECOND, SECOND]
    assert broker.count("ReportRejectedToken") == 1


async def test_body_that_can_be_sent_once_is_sent_once(
    call: Caller, envoy: FakeEnvoy, broker: FakeBroker
) -> None:
    """Half a body would go the second time; the report spares the next caller the same."""
    envoy.answers = [401]
    assert await call(envoy.url, b"a stream", replayable=False) == 401
    assert envoy.seen == [FIRST._replace(body=b"a stream")]
    assert broker.count("ReportRejectedToken") == 1
    assert await call(envoy.url) == 200


async def test_other_origin_gets_no_token(
    call: Caller, envoy: FakeEnvoy, elsewhere: FakeEnvoy, broker: FakeBroker
) -> None:
    """A token that is sent elsewhere is given away; nor is another's 401 about it."""
    elsewhere.answers = [401]
    assert await call(elsewhere.url) == 401
    assert (elsewhere.seen, envoy.seen, broker.calls) == ([Seen("", b"")], [], [])


async def test_redirect_carries_no_token_and_its_401_reports_none(
    call: Caller, envoy: FakeEnvoy, elsewhere: FakeEnvoy, broker: FakeBroker
) -> None:
    """Nor is a token to follow wherever an answer points."""
    envoy.answers, envoy.redirects_to = [307], elsewhere.url
    elsewhere.answers = [401]
    assert await call(envoy.url) == 401
    assert elsewhere.seen == [Seen("", b"")]
    assert broker.count("ReportRejectedToken") == 0


async def test_request_without_a_token_is_not_sent(
    call: Caller, envoy: FakeEnvoy, broker: FakeBroker
) -> None:
    """It would only be refused, and the caller would look in the wrong place."""
    broker.refuses = refusal(grpc.StatusCode.NOT_FOUND, "INSTALL_NOT_FOUND")
    with pytest.raises(InstallNotFound):
        await call(envoy.url)
    assert envoy.seen == []


async def test_auth_of_threads_does_not_hold_up_an_event_loop(broker: FakeBroker) -> None:
    """The two are easily mistaken for each other."""
    with Client(broker.target, credentials=Credentials.insecure()) as client:
        async with httpx.AsyncClient(auth=HttpxAuth(client, INSTALL)) as http:
            with pytest.raises(TypeError, match="AsyncInstallAuth"):
                await http.get("https://api.envoy.com")


def test_what_was_done_before_a_redirect_is_not_done_again(broker: FakeBroker) -> None:
    """The 401 is the second request's: to send the first again would do its work twice."""
    sent: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.path))
        if request.url.path == "/make":
            return httpx.Response(303, headers={"location": "/made"})
        return httpx.Response(200 if len(sent) > 2 else 401)

    with (
        Client(broker.target, credentials=Credentials.insecure()) as client,
        httpx.Client(
            auth=HttpxAuth(client, "1"), transport=httpx.MockTransport(answer), follow_redirects=True
        ) as http,
    ):
        assert http.post("https://api.envoy.com/make", content=b"{}").status_code == 200
    assert sent == [("POST", "/make"), ("GET", "/made"), ("GET", "/made")]
