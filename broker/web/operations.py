"""The operations port: /metrics, and whether the broker is up. For the operator's network, not for Envoy's."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.web.app import Readiness, health_routes

# The text, and its content type, for what a request accepts.
Metrics = Callable[[str], tuple[bytes, str]]


def operations_app(metrics: Metrics, readiness: Readiness, more: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application; `more`: the console, where it is on."""

    async def show_metrics(request: Request) -> Response:
        text, content_type = metrics(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return Starlette(routes=[Route("/metrics", show_metrics), *health_routes(readiness), *more])
