"""A small service: `GET /company/100000?install=1000000` answers with that company, as Envoy knows it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tokenbroker.client import AsyncClient, Credentials, TokenBrokerError
from tokenbroker.client.httpx import AsyncInstallAuth

TARGET = os.environ.get("TOKEN_BROKER_TARGET", "127.0.0.1:50051")
ENVOY = os.environ.get("ENVOY_ORIGIN", "http://127.0.0.1:8081")
PORT = int(os.environ.get("PORT", "8000"))


class State(TypedDict):
    """What all requests share."""

    tokens: AsyncClient
    envoy: httpx.AsyncClient


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """One client for the whole process: it remembers tokens, and asks the broker only when one is not fresh any more."""
    # In the clear, to a broker on this machine; any other is shown a certificate, or the file of a token.
    async with (
        AsyncClient(TARGET, credentials=Credentials.insecure()) as tokens,
        httpx.AsyncClient(base_url=ENVOY) as envoy,
    ):
        yield {"tokens": tokens, "envoy": envoy}


async def company(request: Request) -> Response:
    """Envoy's own answer, with the token's generation in a header. The token itself goes nowhere but to Envoy."""
    tokens, envoy = request.state.tokens, request.state.envoy
    install = request.query_params.get("install", "")
    # Puts the install's token on the request. If Envoy answers 401, it reports that to the broker, and sends the request
    # once more with a newer token.
    auth = AsyncInstallAuth(tokens, install, origin=ENVOY)
    try:
        answer = await envoy.get(f"/api/v3/companies/{request.path_params['company_id']}", auth=auth)
        generation = (await tokens.token(install)).generation  # from memory: it costs nothing
    except TokenBrokerError as error:
        return JSONResponse({"error": error.reason}, httpx.codes.BAD_GATEWAY)  # such as INSTALL_NOT_FOUND
    headers = {"Token-Generation": str(generation), "Content-Type": "application/json"}
    return Response(answer.content, answer.status_code, headers)


app = Starlette(routes=[Route("/company/{company_id:int}", company)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, port=PORT, log_level="warning")
