"""Where a key set comes from: a file, or an https address such as the Kubernetes API server's /openid/v1/jwks."""

import asyncio
import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import httpx

import broker
from broker.adapters.identity.jwks import KeysNotRead
from broker.domain.secret import Secret
from broker.domain.token_url import check_token_url

FETCH_LIMIT: Final = timedelta(seconds=5)
MAX_KEY_SET_BYTES: Final = 256 * 1024
MAX_TOKEN_FILE_BYTES: Final = 16 * 1024

_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")
_USER_AGENT: Final = f"envoy-token-broker/{broker.__version__}"


class KeySource(Protocol):
    """Where a key set comes from."""

    async def read(self) -> bytes:
        """The key set as it is now, as JSON, of a bounded size and within a bounded time.

        Raises:
            KeysNotRead.
        """
        ...


class KeyFile:
    """A key set in a file."""

    def __init__(self, path: Path, *, limit: timedelta = FETCH_LIMIT) -> None:
        self._path = path
        self._limit = limit

    async def read(self) -> bytes:
        try:
            # A file system over the network may never answer.
            async with asyncio.timeout(self._limit.total_seconds()):
                return await asyncio.to_thread(_read_file, self._path, MAX_KEY_SET_BYTES)
        except TimeoutError:
            raise KeysNotRead("timeout") from None


class KeyUrl:
    """A key set behind https, or behind http on this machine. Redirects and proxies of the environment are not followed.

    Files are read anew for each request: Kubernetes renews them.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        bearer_file: Path | None = None,
        limit: timedelta = FETCH_LIMIT,
    ) -> None:
        """`ca_file`: the only authorities to trust (PEM). `bearer_file`: a token to show, from Kubernetes to its API.

        Raises:
            ValueError: nothing that is believed may come from `url`.
        """
        check_token_url(url)
        self._url = httpx.URL(url)
        self._ca_file = ca_file
        self._bearer_file = bearer_file
        self._limit = limit

    async def read(self) -> bytes:
        try:
            async with asyncio.timeout(self._limit.total_seconds()):
                headers = await asyncio.to_thread(self._headers)
                tls = await asyncio.to_thread(self._tls)
                return await self._get(headers, tls)
        except TimeoutError:
            kind = "timeout"
        except (httpx.HTTPError, OSError) as error:
            kind = _kind(error)
        # Raised out here, so that no cause, which would hold the request, hangs on it.
        raise KeysNotRead(kind)

    async def _get(self, headers: dict[str, str], tls: ssl.SSLContext) -> bytes:
        async with (
            httpx.AsyncClient(
                verify=tls, trust_env=False, follow_redirects=False, timeout=self._limit.total_seconds()
            ) as client,
            client.stream("GET", self._url, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise KeysNotRead(f"status_{response.status_code}")
            return await _bounded(response)

    def _headers(self) -> dict[str, str]:
        # Unpacking an answer would take more memory than reading one may.
        headers = {
            "User-Agent": _USER_AGENT,
            "Accept": "application/json, application/jwk-set+json",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if self._bearer_file is not None:
            headers["Authorization"] = f"Bearer {_bearer(self._bearer_file).reveal()}"
        return headers

    def _tls(self) -> ssl.SSLContext:
        if self._ca_file is None:
            return httpx.create_ssl_context(trust_env=False)
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ValueError):
            raise KeysNotRead("ca_file_not_read") from None


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_KEY_SET_BYTES:
            raise KeysNotRead("too_large")
    return bytes(body)


def _bearer(path: Path) -> Secret:
    token = _read_file(path, MAX_TOKEN_FILE_BYTES).decode("ascii", "replace").strip()
    if not _VISIBLE_ASCII.fullmatch(token):
        raise KeysNotRead("bearer_file_malformed")
    return Secret(token)


def _read_file(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError:
        raise KeysNotRead("file_not_read") from None
    if len(content) > limit_bytes:
        raise KeysNotRead("too_large")
    return content


def _kind(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "certificate_refused"
        cause = cause.__cause__ or cause.__context__
    return "connect_failed" if isinstance(error, httpx.ConnectError) else "connection_lost"
