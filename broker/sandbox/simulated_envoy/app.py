"""The simulated Envoy as one ASGI application: Envoy's own addresses, and ``/_simulator`` beside them."""

import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broker.sandbox.simulated_envoy.clients import AppDirectory, SimulatedApp
from broker.sandbox.simulated_envoy.control import Control, control_error, json_response
from broker.sandbox.simulated_envoy.control_requests import ControlRequestError
from broker.sandbox.simulated_envoy.exchange import TokenExchange
from broker.sandbox.simulated_envoy.faults import TOKEN_PATHS
from broker.sandbox.simulated_envoy.gate import Gate
from broker.sandbox.simulated_envoy.issuer import Issuer
from broker.sandbox.simulated_envoy.layers import BehaviourLayers
from broker.sandbox.simulated_envoy.ledger import Ledger
from broker.sandbox.simulated_envoy.webhooks import WebhookSender

JSON_API = "application/vnd.api+json"

_ABOUT = """\
A simulated Envoy (envoy.com), to develop an Envoy app against. Nothing here is real, and no token is worth anything.

Envoy's own:
  POST   /oauth2/token, /a/auth/v0/token       plugin_install, refresh_token, client_credentials
  GET    /api/v3/companies/{company_id}        200 if the bearer token is alive and the company's, else 401

The simulator's:
  POST   /_simulator/installs                        install the app, and send the signed webhook of a setup step
  GET    /_simulator/installs/{install_id}           the install and its config
  POST   /_simulator/installs/{install_id}/webhook   send its last webhook again, byte for byte
  POST   /_simulator/installs/{install_id}/uninstall revoke its tokens, and send plugin_uninstalled
  GET    /_simulator/ledger                          every token request; ?install_id=
                                                     ?await_requests=N&until=arrived|processed|answered&timeout_seconds=S
  DELETE /_simulator/ledger                          empty it
  GET, PUT, DELETE /_simulator/behaviour[/{install_id}]   how to behave, for all installs or for one
  POST   /_simulator/release                         let held token requests go on
  GET    /_simulator/tokens/{fingerprint}            alive, or why not
"""


class SimulatedEnvoy:
    """Envoy's token endpoint and webhook sender, in memory, for one event loop.

    Attributes:
        asgi: The application; serve it with `server_config`, so that it can drop connections.
    """

    def __init__(
        self,
        apps: Sequence[SimulatedApp],
        *,
        clock: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        """``clock`` gives Unix seconds; a ``seed`` makes the tokens the same in each run."""
        directory, layers = AppDirectory(apps), BehaviourLayers()
        self._clock = clock
        # Its tokens open nothing: with a seed they may be guessed.
        self._issuer = Issuer(random.SystemRandom() if seed is None else random.Random(seed))  # nosec B311
        self._ledger, self._gate, self._sender = Ledger(), Gate(), WebhookSender()
        self._exchange = TokenExchange(directory, self._issuer, layers, self._ledger, self._gate, clock)
        control = Control(directory, self._issuer, layers, self._ledger, self._gate, self._sender, clock)
        self.asgi = Starlette(
            routes=[
                Route("/", self._about, methods=["GET"]),
                *(Route(path, self._exchange.answer, methods=["POST"]) for path in TOKEN_PATHS),
                Route("/api/v3/companies/{company_id}", self._company, methods=["GET"]),
                *control.routes(),
            ],
            exception_handlers={ControlRequestError: control_error},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._exchange.close()
        await self._sender.close()

    async def _about(self, _: Request) -> Response:
        return PlainTextResponse(_ABOUT)

    async def _company(self, request: Request) -> Response:
        """Envoy's own API, as far as it takes to ask whether an access token is alive."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        company_id = request.path_params["company_id"]
        if scheme.lower() != "bearer" or self._issuer.company_of_live(token, self._clock()) != company_id:
            unauthorized = {"status": "401", "title": "Unauthorized"}
            return json_response({"errors": [unauthorized]}, 401, JSON_API)
        company = {"id": company_id, "type": "companies", "attributes": {"name": "Simulated company"}}
        return json_response({"data": company}, media_type=JSON_API)
