"""Asks Envoy's token endpoint, by httpx.

What matters most is to tell "nothing was sent" from "Envoy may have acted": the first costs nothing, the
second costs the refresh token. So every failure counts as the second unless it is known that the request's
first byte was not written.

Each call has a connection, and a pool, of its own:

- On a kept connection a request can cross the server's closing it, and nobody knows whether Envoy acted.
  A handshake costs less than a fresh pair.
- httpx's pool loses slots when calls are cut off under contention (httpcore issue 1093), and its client keeps
  cookies. A pool that serves one call does neither.

How many calls run at once is bounded by who calls: the refresher's flights.
"""

import asyncio
import secrets
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import httpx

import broker
from broker.adapters.envoy.wire import (
    ClientAuthentication,
    Grant,
    RequestForm,
    TokenAnswer,
    TokenRequest,
    body_matters,
    build_request,
    read_answer,
)
from broker.domain.apps import EnvoyApp
from broker.domain.errors import NotSent, OutcomeUnknown, ProviderFault
from broker.domain.installs import IssuedTokens
from broker.domain.secret import Secret
from broker.domain.token_url import check_token_url
from broker.ports import Clock
from broker.telemetry import spans

CONNECT_LIMIT: Final = timedelta(seconds=5)
# Connecting has two steps, TCP and TLS, each with this share of the call's limit at most, so that the limit on
# the whole never cuts a handshake off: httpcore then forgets to close the socket.
CONNECT_SHARE: Final = 1 / 3
MAX_ANSWER_BYTES: Final = 64 * 1024

_BOUNDARY_BYTES: Final = 16
_USER_AGENT: Final = f"envoy-token-broker/{broker.__version__}"
# Failures that httpx knows only from before a request is written.
_BEFORE_SENDING: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
# The first that fits an error or one of its causes. Time-outs stand before TLS: one of its causes then is that
# TLS waited.
_KINDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (httpx.ConnectTimeout, "connect_timeout"),
    (httpx.TimeoutException, "timeout"),
    (TimeoutError, "timeout"),
    (ssl.SSLCertVerificationError, "certificate_refused"),
    (ssl.SSLError, "tls_failed"),
    (socket.gaierror, "name_not_resolved"),
    (httpx.ConnectError, "connect_failed"),
    (httpx.RemoteProtocolError, "protocol_error"),
)


class EnvoyClient:
    """The TokenEndpoint port. Form and authentication are as configured, and never tried in turn."""

    def __init__(
        self,
        token_url: str,
        *,
        clock: Clock,
        form: RequestForm = RequestForm.MULTIPART,
        authentication: ClientAuthentication = ClientAuthentication.BODY,
        propagates_trace: bool = False,
        connect_limit: timedelta = CONNECT_LIMIT,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Raises ValueError if the client secret may not be sent to `token_url`.

        `propagates_trace`: Envoy is told in whose trace it is called, which is nothing that it documents.
        `ssl_context` replaces the one that verifies by httpx's own list of authorities.
        """
        check_token_url(token_url)
        self._token_url = httpx.URL(token_url)
        self._clock = clock
        self._form = form
        self._authentication = authentication
        self._propagates_trace = propagates_trace
        self._connect_limit = connect_limit
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)

    async def refresh(self, app: EnvoyApp, refresh_token: Secret, deadline: datetime) -> IssuedTokens:
        """Present a refresh token; errors as the port says."""
        return await self._ask(app, Grant.refresh(refresh_token), deadline)

    async def mint(self, app: EnvoyApp, install_id: str, deadline: datetime) -> IssuedTokens:
        """Ask for a first or a fresh pair; errors as the port says."""
        return await self._ask(app, Grant.mint(install_id), deadline)

    async def _ask(self, app: EnvoyApp, grant: Grant, deadline: datetime) -> IssuedTokens:
        boundary = secrets.token_hex(_BOUNDARY_BYTES)
        request = build_request(self._form, self._authentication, app, grant, boundary=boundary)
        requested_at = self._clock.now()
        if requested_at >= deadline:
            raise NotSent("deadline_passed")
        answer = await self._exchange(request, deadline - requested_at)
        return read_answer(answer, grant_type=grant.grant_type, requested_at=requested_at)

    async def _exchange(self, request: TokenRequest, limit: timedelta) -> TokenAnswer:
        progress = _Progress()
        try:
            # httpx limits each operation; only this limits the whole.
            async with asyncio.timeout(limit.total_seconds()):
                return await self._post(request, limit, progress)
        except (httpx.HTTPError, OSError) as error:
            fault = _fault(error, progress)
        # Raised out here, so that no cause, which would hold the request, hangs on it.
        raise fault

    async def _post(self, request: TokenRequest, limit: timedelta, progress: "_Progress") -> TokenAnswer:
        async with (
            self._new_client(limit) as client,
            client.stream(
                "POST",
                self._token_url,
                headers={**request.headers, **(spans.outbound_headers() if self._propagates_trace else {})},
                content=request.content,
                extensions={"trace": progress.note},
            ) as response,
        ):
            body = await _read(response) if body_matters(response.status_code) else b""
            headers = response.headers
            return TokenAnswer(response.status_code, headers.get("retry-after"), headers.get("date"), body)

    def _new_client(self, limit: timedelta) -> httpx.AsyncClient:
        connect_seconds = min(self._connect_limit, limit * CONNECT_SHARE).total_seconds()
        return httpx.AsyncClient(
            verify=self._ssl_context,
            trust_env=False,
            follow_redirects=False,
            http1=True,
            http2=False,
            timeout=httpx.Timeout(limit.total_seconds(), connect=connect_seconds),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
            # Unpacking an answer would take more memory than reading one may.
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", "Connection": "close"},
        )


class _Progress:
    """How far a request has come, by httpcore's trace events.

    Only an event of the connection's own proves that nothing has been written; what we are not told, or are
    told in other words by another release, counts as sent.
    """

    def __init__(self) -> None:
        self.may_have_sent = True

    async def note(self, event: str, _details: object) -> None:
        """Take note of an event such as `connection.start_tls.complete`."""
        self.may_have_sent = not event.startswith("connection.")


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise OutcomeUnknown("answer_too_large")
    return bytes(body)


def _fault(error: Exception, progress: _Progress) -> ProviderFault:
    kind = _kind(error)
    if isinstance(error, _BEFORE_SENDING) or not progress.may_have_sent:
        return NotSent(kind)
    return OutcomeUnknown(kind)


def _kind(error: BaseException) -> str:
    chain = list(_causes(error))
    for cause_type, kind in _KINDS:
        if any(isinstance(cause, cause_type) for cause in chain):
            return kind
    return "connection_lost"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
