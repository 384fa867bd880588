"""POST /envoy/webhooks: takes a webhook as Envoy sends it, and answers what Envoy expects.

A 2xx whose body is a JSON object becomes the install's configuration in place of what was submitted, so the
payload is echoed. A 4xx with `{"message": …}` is shown to the person who installs the app. Anything else that
is not 2xx makes Envoy send the webhook again, five times over ten minutes (developers.envoy.com,
"create-webhooks" and "validation-setup").
"""

import asyncio
from typing import Final

import structlog
from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from broker.domain.errors import (
    BrokerError,
    InstallNotFound,
    InvalidField,
    ReauthorizationRequired,
    RetryableError,
    SignatureRefused,
)
from broker.domain.webhooks import MAX_BODY_BYTES
from broker.service.accept_route_webhook import AcceptRouteWebhook
from broker.telemetry import metrics, spans

log = structlog.get_logger(__name__)

ROUTE: Final = "/envoy/webhooks/{plugin_id}"
SPAN: Final = f"POST {ROUTE}"
SERVER_ERROR: Final = 500
SIGNATURE_HEADER: Final = "x-envoy-signature"
BODY_SECONDS: Final = 10

# For the eyes of the person who installs the app: what they can do, in their words.
INSTALL_AGAIN: Final = "Envoy did not confirm this installation. Please start the app's setup again."
OUR_FAULT: Final = "The app can't be set up at the moment. Please try again later."


class WebhookIngress:
    """The endpoint."""

    def __init__(self, accept: AcceptRouteWebhook) -> None:
        self._accept = accept

    async def __call__(self, request: Request) -> Response:
        """Answer one webhook, within the trace that its headers name; never raises for anything a sender can do."""
        caller = trace.NonRecordingSpan(spans.read_context(request.headers))
        with spans.tracer.start_as_current_span(
            SPAN,
            trace.set_span_in_context(caller),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": "POST", "http.route": ROUTE},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            response = await self._answer(request)
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= SERVER_ERROR:
                span.set_status(trace.StatusCode.ERROR)
            return response

    async def _answer(self, request: Request) -> Response:
        plugin_id = request.path_params.get("plugin_id", "")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _bounded_body(request)
            signature = request.headers.get(SIGNATURE_HEADER, "")
            accepted = await self._accept.signed(plugin_id, body, signature)
        except TimeoutError:
            return JSONResponse({"message": "the body took too long to arrive"}, 408)
        except ClientDisconnect:
            return Response(status_code=400)
        except BrokerError as error:
            metrics.webhooks.add(1, {"outcome": type(error).__name__})
            return _refusal(error, plugin_id)
        metrics.webhooks.add(1, {"outcome": "accepted"})
        return JSONResponse(accepted.payload or {})


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _refusal(error: BrokerError, plugin_id: str) -> Response:
    """The HTTP answer for each of the domain's errors."""
    headers = {}
    match error:
        case SignatureRefused():
            status, message = 401, str(error)
        case InvalidField():
            status, message = 400, str(error)
        case InstallNotFound():
            status, message = 404, "no app answers at this address"
        case ReauthorizationRequired():
            status, message = 422, INSTALL_AGAIN
        case RetryableError(retry_after=retry_after):
            status, message = 503, OUR_FAULT
            headers["retry-after"] = str(max(1, round(retry_after.total_seconds())))
        case _:
            status, message = 503, OUR_FAULT
    log.warning(
        "webhook.refused", plugin_id=plugin_id, error=type(error).__name__, reason=str(error), status=status
    )
    return JSONResponse({"message": message}, status, headers)
