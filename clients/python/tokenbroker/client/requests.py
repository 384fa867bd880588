"""For requests: an auth that puts the token of an install on requests to Envoy, and on no others.

    session.auth = InstallAuth(client, "1000000")

requests itself takes the header away where a redirect leads to another host.
"""

from functools import partial
from typing import Any

import requests
from requests.auth import AuthBase

from tokenbroker.client.client import Client
from tokenbroker.client.origin import ENVOY, HEADER, UNAUTHORIZED, Origin
from tokenbroker.client.replacement import replacement
from tokenbroker.client.token import Token, authorization


class InstallAuth(AuthBase):
    """The token of one install. Upon a 401 it is reported, and the request sent once more if there is a newer one.

    A body that can't be sent twice, one from an iterator or a file, is not; the 401 is the answer then.

    Raises:
        ValueError: `origin` is none.
        TokenBrokerError: out of the request, if there is no token.
    """

    def __init__(self, client: Client, install: str, *, origin: str = ENVOY) -> None:
        self._client = client
        self._install = install
        self._origin = Origin.configured(origin)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """See requests.auth.AuthBase."""
        if self._is_ours(request):
            token = self._client.token(self._install)
            request.headers[HEADER] = authorization(token)
            request.hooks["response"].append(partial(self._answered, token))
        return request

    def _answered(self, token: Token, response: requests.Response, **sending: Any) -> requests.Response:
        """What the caller gets for a response. Those of redirects come by, too."""
        request = response.request
        was_refused = response.status_code == UNAUTHORIZED and self._is_ours(request)
        if not was_refused or request.headers.get(HEADER) != authorization(token):
            return response
        newer = replacement(self._client, token)
        if newer is None or not isinstance(request.body, bytes | str | None):
            return response
        return _sent_again(response, newer, sending)

    def _is_ours(self, request: requests.PreparedRequest) -> bool:
        return Origin.of(request.url or "") == self._origin


def _sent_again(response: requests.Response, token: Token, sending: dict[str, Any]) -> requests.Response:
    """As requests' own HTTPDigestAuth does it, by the same adapter; but not a copy: redirects follow from the first."""
    response.content  # noqa: B018 - reads it, so that the connection is free
    response.close()
    request = response.request
    request.headers[HEADER] = authorization(token)
    answer: requests.Response = response.connection.send(request, **sending)
    answer.history.append(response)
    return answer
