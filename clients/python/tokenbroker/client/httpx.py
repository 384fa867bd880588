"""For httpx: an auth that puts the token of an install on requests to Envoy, and on no others.

    httpx.Client(auth=InstallAuth(client, "1000000"))
    httpx.AsyncClient(auth=AsyncInstallAuth(async_client, "1000000"))

httpx itself takes the header away where a redirect leads to another origin.
"""

from collections.abc import AsyncGenerator, Generator

import httpx

from tokenbroker.client.async_client import AsyncClient
from tokenbroker.client.client import Client
from tokenbroker.client.origin import ENVOY, HEADER, UNAUTHORIZED, Origin
from tokenbroker.client.replacement import async_replacement, replacement
from tokenbroker.client.token import Token, authorization


class _OneOrigin(httpx.Auth):
    def __init__(self, install: str, origin: str) -> None:
        self._install = install
        self._origin = Origin.configured(origin)

    def _is_ours(self, request: httpx.Request) -> bool:
        url = request.url
        return Origin.named(url.scheme, url.host, url.port) == self._origin

    def _is_refused(self, response: httpx.Response) -> bool:
        """Whether Envoy has refused the token: a redirect may have led to somebody else."""
        return response.status_code == UNAUTHORIZED and self._is_ours(response.request)


class InstallAuth(_OneOrigin):
    """The token of one install. Upon a 401 it is reported, and the request sent once more if there is a newer one.

    A body that can't be sent twice, one from an iterator or a file, is not; the 401 is the answer then.

    Raises:
        ValueError: `origin` is none.
        TokenBrokerError: out of the request, if there is no token.
    """

    def __init__(self, client: Client, install: str, *, origin: str = ENVOY) -> None:
        super().__init__(install, origin)
        self._client = client

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx.Auth."""
        if not self._is_ours(request):
            yield request
            return
        token = self._client.token(self._install)
        response = yield _authorized(request, token)
        if self._is_refused(response):
            newer = replacement(self._client, token)
            # Not the request that was asked for: what that asked may be done, and a redirect have led to this one.
            if newer is not None and _is_replayable(response.request):
                yield _authorized(response.request, newer)

    def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:  # noqa: ARG002 - httpx's signature
        """It would hold up the event loop."""
        raise TypeError("httpx.AsyncClient takes an AsyncInstallAuth")


class AsyncInstallAuth(_OneOrigin):
    """The same for httpx.AsyncClient."""

    def __init__(self, client: AsyncClient, install: str, *, origin: str = ENVOY) -> None:
        super().__init__(install, origin)
        self._client = client

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See httpx.Auth."""
        if not self._is_ours(request):
            yield request
            return
        token = await self._client.token(self._install)
        response = yield _authorized(request, token)
        if self._is_refused(response):
            newer = await async_replacement(self._client, token)
            # Not the request that was asked for: what that asked may be done, and a redirect have led to this one.
            if newer is not None and _is_replayable(response.request):
                yield _authorized(response.request, newer)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:  # noqa: ARG002 - httpx's signature
        """It could not wait."""
        raise TypeError("httpx.Client takes an InstallAuth")


def _authorized(request: httpx.Request, token: Token) -> httpx.Request:
    request.headers[HEADER] = authorization(token)
    return request


def _is_replayable(request: httpx.Request) -> bool:
    """Whether the whole body is in memory."""
    return isinstance(request.stream, httpx.ByteStream)
