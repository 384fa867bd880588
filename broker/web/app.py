"""The HTTP application: webhooks, /healthz, /readyz."""

from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from broker.web.ingress import OUR_FAULT, WebhookIngress

log = structlog.get_logger(__name__)

ReadinessProblem = Callable[[], Awaitable[str | None]]


def web_app(ingress: WebhookIngress, readiness_problem: ReadinessProblem) -> Starlette:
    """The ASGI application. `readiness_problem` says why the broker is not ready, or None."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        problem = await readiness_problem()
        if problem is None:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {problem}\n", 503)

    async def failed(_request: Request, error: Exception) -> Response:
        log.error("web.failed", exc_info=error)
        return JSONResponse({"message": OUR_FAULT}, 500)

    async def refused(_request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)

    return Starlette(
        routes=[
            Route("/envoy/webhooks", ingress.__call__, methods=["POST"]),
            Route("/envoy/webhooks/{plugin_id}", ingress.__call__, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
    )
