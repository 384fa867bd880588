"""Who looks at the console: shown as to gRPC, by a client certificate, a bearer token, or both.

A browser sends no `Authorization` of its own, so it may sign in: the token then lies in a cookie that scripts can't
read, that goes to the console alone, and that no other site can make a browser send.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from broker.domain.callers import Caller, Credentials
from broker.domain.secret import Secret
from broker.ports import Authenticator
from broker.web.peer_names import names_shown

PATH: Final = "/console"
COOKIE: Final = "token_broker_console"
# What browsers keep for a name and its value together (RFC 6265, section 6.1), less some room.
MAX_COOKIE_CHARACTERS: Final = 4_000
BEARER: Final = "bearer "
LOCALHOST: Final = "localhost"


class NotServed(Exception):
    """A request that is answered with an HTTP status and a sentence, whoever sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Door:
    """The console's own.

    Attributes:
        count: counts a page against the caller's rate; raises Overloaded.
        takes_tokens: whether it is of use to sign in.
        anybody: nobody is asked for a name. Then only browsers that mean this machine are served: a page of
            somebody else's could have its own name lead here (DNS rebinding).
        over_tls: the cookie never leaves in the clear.
    """

    authenticator: Authenticator
    count: Callable[[Caller], None]
    takes_tokens: bool
    anybody: bool
    over_tls: bool

    async def caller_of(self, request: Request) -> Caller:
        """Who asks for this page.

        Raises:
            CallerUnauthenticated, Overloaded.
            NotServed: it was asked for by the name of another machine.
        """
        if self.anybody and not is_this_machine(request.headers.get("host", "")):
            raise NotServed(421, "Ask for the console by the name of this machine: localhost.")
        return await self._known(request, bearer_of(request))

    async def sign_in(self, request: Request, token: Secret, response: Response) -> None:
        """Let `response` keep the token in the browser, if it is a good one.

        Raises:
            CallerUnauthenticated, Overloaded.
            NotServed: another site sent the form, or no browser could keep the token.
        """
        refuse_other_sites(request)
        await self._known(request, token)
        if len(token.reveal()) > MAX_COOKIE_CHARACTERS:
            raise NotServed(
                413, "The token is good, but longer than what a browser keeps. Send it as a header."
            )
        response.set_cookie(
            COOKIE, token.reveal(), path=PATH, httponly=True, samesite="strict", secure=self.over_tls
        )

    def sign_out(self, request: Request, response: Response) -> None:
        """Let the browser forget the token. Raises NotServed: another site sent the form."""
        refuse_other_sites(request)
        response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict", secure=self.over_tls)

    async def _known(self, request: Request, bearer: Secret | None) -> Caller:
        caller = await self.authenticator.authenticate(Credentials(names_shown(request), bearer))
        self.count(caller)
        return caller


def bearer_of(request: Request) -> Secret | None:
    """The token in the header; without that header, the one in the cookie."""
    header = request.headers.get("authorization")
    if header is not None:
        is_bearer = header[: len(BEARER)].lower() == BEARER
        return Secret(header[len(BEARER) :].strip()) if is_bearer else None
    kept = request.cookies.get(COOKIE)
    return Secret(kept) if kept else None


def refuse_other_sites(request: Request) -> None:
    """Raises NotServed for a form that a page of another site sent. What is no browser does not say."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise NotServed(403, "This form comes from another site.")


def is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine as it names itself."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    name = name.removeprefix("[").removesuffix("]").lower()
    if name == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
