"""The console's pages: who asks, what the policy gives them of it, the record of that, and only then the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import structlog
from opentelemetry import trace
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from broker.domain.callers import Operation
from broker.domain.errors import (
    AuditUnavailable,
    BrokerError,
    CallerUnauthenticated,
    InstallNotFound,
    InvalidField,
    RetryableError,
)
from broker.domain.installs import InstallFilter
from broker.domain.secret import Secret
from broker.domain.states import InstallState
from broker.service.calls import Call, Guard
from broker.service.installs import Installs
from broker.service.list_installs import DEFAULT_PAGE_SIZE, ListInstalls
from broker.service.use_cases import UseCases
from broker.telemetry import spans
from broker.web.console.door import COOKIE, PATH, Door, NotServed
from broker.web.console.overview import overview_of
from broker.web.console.rendering import HEADERS, Pages
from broker.web.console.replica import Shown

log = structlog.get_logger(__name__)

MAX_FORM_BYTES: Final = 16 * 1024
FORM_SECONDS: Final = 10
NOT_TAKEN: Final = "This broker does not take that token. Its log says why."
OUR_FAULT: Final = "The broker failed; its log says why."

Facts = dict[str, Any]
Answer = Callable[[Request, Call], Awaitable[Facts]]
Endpoint = Callable[[Request], Awaitable[Response]]


class InternalError(BrokerError):
    """The broker's fault: so it is named on record, as of a gRPC call."""


@dataclass(frozen=True, slots=True)
class Console:
    """Attributes: until_not_found_may_be_told: waits, for a page that was asked for then, as the API does."""

    door: Door
    guard: Guard
    installs: Installs
    list_installs: ListInstalls
    shown: Shown
    until_not_found_may_be_told: Callable[[float], Awaitable[None]]
    pages: Pages

    async def overview(self, _request: Request, call: Call) -> Facts:
        """Counts, apps and this replica: a ListInstalls by the policy."""
        census = self.shown.census()
        overview = overview_of(census, call.may_see_app) if census is not None else None
        counted_at = census.counted_at if census is not None else None
        return {"overview": overview, "counted_at": counted_at, "replica": self.shown.replica()}

    async def list(self, request: Request, call: Call) -> Facts:
        """A page of ListInstalls; of failing ones, unless all are asked for."""
        asked = {
            name: request.query_params.get(name, "").strip() for name in ("plugin_id", "company_id", "state")
        }
        show = request.query_params.get("show", "failing")
        wanted = InstallFilter(
            plugin_id=asked["plugin_id"] or None,
            company_id=asked["company_id"] or None,
            state=_state(asked["state"]),
            failing=show != "all",
        )
        page_token = request.query_params.get("page_token", "")
        page = await self.list_installs(call, wanted, DEFAULT_PAGE_SIZE, page_token)
        return {
            "page": page,
            "asked": asked,
            "show": show,
            "states": list(InstallState),
            "first": not page_token,
        }

    async def install(self, request: Request, call: Call) -> Facts:
        """GetInstall, with the history."""
        named = request.query_params
        install = await self.installs.get(call, named.get("plugin_id", ""), named.get("install_id", ""))
        return {"install": install, "history": await self.installs.history(install)}

    async def sign_in(self, request: Request) -> Response:
        """Take the token of the form into the browser's keeping."""
        response = RedirectResponse(PATH, 303, HEADERS)
        try:
            async with asyncio.timeout(FORM_SECONDS):
                token = await _token_of_form(request)
            await self.door.sign_in(request, token, response)
        except CallerUnauthenticated:
            return self.asks_to_sign_in(NOT_TAKEN)
        except TimeoutError:
            return self._trouble(408, "The form took too long to arrive.")
        except ClientDisconnect:
            return Response(status_code=400)
        except BrokerError as error:
            return self._refusal(error)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Let the browser forget it."""
        response = RedirectResponse(PATH, 303, HEADERS)
        self.door.sign_out(request, response)
        return response

    async def styles(self, _request: Request) -> Response:
        """The style sheet, which tells nothing of anybody."""
        return self.pages.styles()

    def visit(self, operation: Operation, template: str, answer: Answer) -> Endpoint:
        """An endpoint for what is `operation` by the policy and on the record."""

        async def endpoint(request: Request) -> Response:
            began = asyncio.get_running_loop().time()
            try:
                caller = await self.door.caller_of(request)
            except CallerUnauthenticated:
                return self.asks_to_sign_in("" if COOKIE not in request.cookies else NOT_TAKEN)
            except BrokerError as error:
                return self._refusal(error)
            call = self.guard.begin(
                caller, operation, address=_address_of(request), trace_id=_trace_id_of(request)
            )
            try:
                facts = await answer(request, call)
                await call.end()
            except BrokerError as error:
                await _put_on_record(call, error)
                if isinstance(error, InstallNotFound):
                    await self.until_not_found_may_be_told(began)
                return self._refusal(error)
            except Exception as error:
                await _put_on_record(call, InternalError())
                log.exception("console.failed", page=template, error=type(error).__name__)
                return self._trouble(500, OUR_FAULT)
            signed_in = COOKIE in request.cookies
            return self.pages.page(
                template, caller=caller, now=self.shown.now(), here=template, signed_in=signed_in, **facts
            )

        return endpoint

    def asks_to_sign_in(self, problem: str) -> Response:
        """Who has not shown who they are."""
        challenge = {"www-authenticate": "Bearer"} if self.door.takes_tokens else {}
        return self.pages.page(
            "sign_in.html", 401, challenge, problem=problem, takes_tokens=self.door.takes_tokens
        )

    def answered(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, with a page for what it does not serve."""

        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except NotServed as error:
                return self._trouble(error.status, str(error))

        return answer

    def _refusal(self, error: BrokerError) -> Response:
        match error:
            case InvalidField():
                return self._trouble(400, str(error))
            case InstallNotFound():
                return self._trouble(404, str(error))
            case RetryableError(retry_after=retry_after):
                seconds = max(1, round(retry_after.total_seconds()))
                return self._trouble(503, str(error), {"retry-after": str(seconds)})
            case _:
                log.error("console.failed", error=type(error).__name__, message=str(error))
                return self._trouble(500, OUR_FAULT)

    def _trouble(self, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        return self.pages.page("trouble.html", status, headers, message=message, code=status)


def console_routes(
    door: Door,
    use_cases: UseCases,
    shown: Shown,
    until_not_found_may_be_told: Callable[[float], Awaitable[None]],
) -> list[BaseRoute]:
    """What answers below PATH. `until_not_found_may_be_told`: see Console."""
    console = Console(
        door,
        use_cases.guard,
        use_cases.installs,
        use_cases.list_installs,
        shown,
        until_not_found_may_be_told,
        Pages(PATH),
    )
    listing, get = Operation.LIST_INSTALLS, Operation.GET_INSTALL
    endpoints: list[tuple[str, str, Endpoint]] = [
        ("GET", PATH, console.visit(listing, "overview.html", console.overview)),
        ("GET", f"{PATH}/installs", console.visit(listing, "installs.html", console.list)),
        ("GET", f"{PATH}/install", console.visit(get, "install.html", console.install)),
        ("POST", f"{PATH}/sign-in", console.sign_in),
        ("POST", f"{PATH}/sign-out", console.sign_out),
        ("GET", f"{PATH}/console.css", console.styles),
    ]
    return [Route(path, console.answered(answer), methods=[method]) for method, path, answer in endpoints]


async def _put_on_record(call: Call, error: BrokerError) -> None:
    """Nothing leaves with an error, so it is told also where the record is away."""
    if isinstance(error, AuditUnavailable):
        return
    try:
        await call.end(error)
    except AuditUnavailable as unavailable:
        log.warning("audit.refusal_not_recorded", error=str(unavailable))


async def _token_of_form(request: Request) -> Secret:
    """Raises NotServed: the form is too large, or none."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise NotServed(413, "The form is too large.")
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=1)
    except ValueError:
        raise NotServed(400, "This is no form of the console's.") from None
    return Secret(fields.get("token", [""])[0].strip())


def _state(name: str) -> InstallState | None:
    try:
        return InstallState(name) if name else None
    except ValueError:
        raise InvalidField("state", "is no state that this release knows") from None


def _address_of(request: Request) -> str:
    """As gRPC writes it."""
    if request.client is None:
        return ""
    host, port = request.client
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _trace_id_of(request: Request) -> str:
    context = spans.read_context(request.headers)
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
