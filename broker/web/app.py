"""The HTTP application: webhooks, /healthz, /readyz."""

from collections.abc import Sequence
from typing import Protocol

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from broker.web.ingress import OUR_FAULT, WebhookIngress

log = structlog.get_logger(__name__)


class Readiness(Protocol):
    """Whether the broker is ready: see broker/readiness.py."""

    @property
    def problem(self) -> str | None:
        """Why it is not ready; None if it is."""
        ...

    def remarks(self) -> Sequence[str]:
        """What is wrong though it is ready."""
        ...


def health_routes(readiness: Readiness) -> list[BaseRoute]:
    """Whether the broker is up, and whether it is ready and why not."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        if readiness.problem is not None:
            return PlainTextResponse(f"not ready: {readiness.problem}\n", 503)
        remarks = "".join(f"but {remark}\n" for remark in readiness.remarks())
        return PlainTextResponse(f"ready\n{remarks}")

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def web_app(ingress: WebhookIngress, readiness: Readiness) -> Starlette:
    """The ASGI application."""

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
            *health_routes(readiness),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
    )
