"""One token request, from its arrival to its answer: stations in the order that `Behaviour` gives."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from broker.sandbox.simulated_envoy.behaviour import Behaviour
from broker.sandbox.simulated_envoy.clients import AppDirectory, SimulatedApp
from broker.sandbox.simulated_envoy.faults import Answer, Refusal, answer_for, refusal_answer
from broker.sandbox.simulated_envoy.gate import Gate
from broker.sandbox.simulated_envoy.issuer import GrantRefusedError, Issuer
from broker.sandbox.simulated_envoy.layers import BehaviourLayers
from broker.sandbox.simulated_envoy.ledger import Ledger, LedgerEntry
from broker.sandbox.simulated_envoy.requests import (
    MAX_BODY_BYTES,
    MalformedTokenRequestError,
    TokenRequest,
    form_of,
    parse_token_request,
)
from broker.sandbox.simulated_envoy.tokens import InstallKey, TokenPair, fingerprint

_INVALID_CLIENT = Refusal("invalid_client", "The client credentials are missing or wrong.", 401)
_INVALID_REQUEST = "invalid_request"


@dataclass(frozen=True)
class _Attempt:
    """A request that was understood, and how it is to be treated."""

    asked: TokenRequest
    app: SimulatedApp | None
    behaviour: Behaviour
    entry: LedgerEntry


class TokenExchange:
    """The token endpoint."""

    def __init__(
        self,
        apps: AppDirectory,
        issuer: Issuer,
        layers: BehaviourLayers,
        ledger: Ledger,
        gate: Gate,
        clock: Callable[[], float],
    ) -> None:
        self._apps = apps
        self._issuer = issuer
        self._layers = layers
        self._ledger = ledger
        self._gate = gate
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Gives up what was to be processed late."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    async def answer(self, request: Request) -> "_Recorded":
        """Answers one request."""
        try:
            asked = await parse_token_request(request.headers, await _bounded_body(request))
        except MalformedTokenRequestError as error:
            return self._answer_malformed(request, str(error))
        except ClientDisconnect:
            return self._answer_malformed(request, "the request was cut off")
        attempt = self._arrive(request, asked)
        await asyncio.sleep(attempt.behaviour.latency_seconds)
        decision = None
        if attempt.behaviour.process_after_seconds is None:
            decision = await self._process_in_time(attempt)
        else:
            self._process_late(attempt, attempt.behaviour.process_after_seconds)
        answer = answer_for(attempt.behaviour, decision, request.url.path)
        return _Recorded(answer, attempt.entry, self._ledger, client_gone=await request.is_disconnected())

    def _arrive(self, request: Request, asked: TokenRequest) -> _Attempt:
        """Opens the ledger's entry. Until the first await after this, nothing else happens."""
        app = self._apps.authenticate(asked.credentials.client_id, asked.credentials.client_secret)
        presented = asked.refresh_token.reveal() if asked.refresh_token else None
        family = self._issuer.family_of(presented)
        install_id = asked.install_id or (family.install_id if family else None)
        entry = self._ledger.arrive(
            self._clock(),
            path=request.url.path,
            form=asked.form,
            credentials=asked.credentials.place,
            grant_type=asked.grant_type,
            plugin_id=app.plugin_id if app else None,
            install_id=install_id,
            token_fingerprint=fingerprint(presented) if presented else None,
            reuse=self._issuer.is_spent(presented),
        )
        return _Attempt(asked, app, self._layers.take(install_id), entry)

    def _answer_malformed(self, request: Request, description: str) -> "_Recorded":
        entry = self._ledger.arrive(
            self._clock(), path=request.url.path, form=form_of(request.headers), credentials=None
        )
        self._ledger.processed(entry, _INVALID_REQUEST)
        refusal = refusal_answer(Refusal(_INVALID_REQUEST, description))
        return _Recorded(Answer(refusal, "documented", outcome_known=True), entry, self._ledger)

    async def _process_in_time(self, attempt: _Attempt) -> TokenPair | Refusal | None:
        behaviour = attempt.behaviour
        await self._gate.pass_through(holding=behaviour.held == "before_processing")
        refused_unprocessed = behaviour.status is not None and not behaviour.status_after_processing
        if behaviour.cut == "before_processing" or refused_unprocessed:
            attempt.entry.outcome = "not_processed"
            return None
        decision = self._process(attempt)
        await self._gate.pass_through(holding=behaviour.held == "after_processing")
        return decision

    def _process_late(self, attempt: _Attempt, delay_seconds: float) -> None:
        async def later() -> None:
            await asyncio.sleep(delay_seconds)
            await self._gate.pass_through(holding=attempt.behaviour.held == "before_processing")
            self._process(attempt)

        task = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _process(self, attempt: _Attempt) -> TokenPair | Refusal:
        """Decides, with every effect on the tokens, and writes it into the ledger. No await in here."""
        entry, presented = attempt.entry, attempt.asked.refresh_token
        entry.reuse = self._issuer.is_spent(presented.reveal() if presented else None)
        decision = self._decide(attempt)
        if isinstance(decision, TokenPair):
            entry.issued_access_fingerprint = fingerprint(decision.access_token)
            entry.issued_refresh_fingerprint = fingerprint(decision.refresh_token or "")
        self._ledger.processed(entry, decision.error if isinstance(decision, Refusal) else "issued")
        return decision

    def _decide(self, attempt: _Attempt) -> TokenPair | Refusal:
        app, behaviour = attempt.app, attempt.behaviour
        if app is None or behaviour.refuse == "client":
            return _INVALID_CLIENT
        try:
            return self._grant(attempt.asked, app, behaviour)
        except GrantRefusedError as error:
            return Refusal("invalid_grant", str(error), behaviour.refusal_status)

    def _grant(self, asked: TokenRequest, app: SimulatedApp, behaviour: Behaviour) -> TokenPair | Refusal:
        if behaviour.refuse == "grant":
            raise GrantRefusedError("As the behaviour says.")
        now = self._clock()
        match asked.grant_type:
            case "plugin_install" if asked.install_id:
                return self._issuer.mint(InstallKey(app.plugin_id, asked.install_id), behaviour, now)
            case "plugin_install":
                return Refusal(_INVALID_REQUEST, "install_id is missing.")
            case "refresh_token" if asked.refresh_token:
                return self._issuer.refresh(app.plugin_id, asked.refresh_token.reveal(), behaviour, now)
            case "refresh_token":
                return Refusal(_INVALID_REQUEST, "refresh_token is missing.")
            case "client_credentials":
                return self._issuer.mint_for_app(app, behaviour, now)
            case _:
                return Refusal("unsupported_grant_type", "The simulated Envoy has no users to log in.")


class _Recorded:
    """Sends an answer, then writes into the ledger what left."""

    def __init__(
        self, answer: Answer, entry: LedgerEntry, ledger: Ledger, *, client_gone: bool = False
    ) -> None:
        self._answer = answer
        self._entry = entry
        self._ledger = ledger
        self._client_gone = client_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the answer as an ASGI application."""
        known = self._answer.outcome_known and not self._client_gone
        name = "client_gone" if self._client_gone else self._answer.name
        try:
            await self._answer.app(scope, receive, send)
        finally:
            self._ledger.answered(self._entry, name, outcome_known=known)


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise MalformedTokenRequestError("The body is too large.")
    return bytes(body)
