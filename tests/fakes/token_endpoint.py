"""FakeTokenEndpoint: the TokenEndpoint port; a test decides what is answered, and when."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.apps import EnvoyApp
from broker.domain.errors import OutcomeUnknown, ProviderFault
from broker.domain.installs import IssuedTokens
from broker.domain.secret import Secret
from broker.ports import Clock
from tests.fakes.issuer import Grantee, StrictIssuer
from tests.fakes.steps import Steps


@dataclass(frozen=True, slots=True)
class Request:
    """A request that reached Envoy. `presented`: the refresh token, revealed; "" for a mint."""

    grant: str
    plugin_id: str
    install_id: str
    presented: str
    sent_at: datetime
    deadline: datetime


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """Envoy acts, and its answer never arrives."""


Answer = ProviderFault | AnswerLost | Callable[[IssuedTokens], IssuedTokens]


@dataclass(slots=True)
class Gate:
    """A request that waits. `arrived` is set by the fake, `opened` by the test."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class FakeTokenEndpoint:
    """Envoy's token endpoint; without a plan it answers what the issuer says.

    Attributes:
        poisoned: refresh tokens, and ids of installs, that always get HTTP 500.
    """

    def __init__(
        self, clock: Clock, issuer: StrictIssuer, requests: list[Request], steps: Steps | None = None
    ) -> None:
        """Every request is noted in `requests`, which replicas may share."""
        self.poisoned: set[str] = set()
        self._requests = requests
        self._clock = clock
        self._issuer = issuer
        self._steps = steps or Steps()
        self._answers: deque[Answer] = deque()
        self._gates: deque[Gate] = deque()

    def answer(self, *answers: Answer) -> None:
        """Plan the next answers: a fault, a lost answer, or the issuer's own with a change."""
        self._answers.extend(answers)

    def hold(self) -> Gate:
        """Let the next request that has no gate yet wait, before Envoy acts on it."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    async def refresh(self, app: EnvoyApp, refresh_token: Secret, deadline: datetime) -> IssuedTokens:
        """See TokenEndpoint."""
        token = refresh_token.reveal()
        request = Request("refresh_token", app.plugin_id, "", token, self._clock.now(), deadline)
        return await self._serve(request, lambda: self._issuer.refresh(app.client_id, token, request.sent_at))

    async def mint(self, app: EnvoyApp, install_id: str, deadline: datetime) -> IssuedTokens:
        """See TokenEndpoint."""
        request = Request("plugin_install", app.plugin_id, install_id, "", self._clock.now(), deadline)
        grantee = Grantee(app.client_id, install_id)
        return await self._serve(request, lambda: self._issuer.mint(grantee, request.sent_at))

    async def _serve(self, request: Request, act: Callable[[], IssuedTokens]) -> IssuedTokens:
        await self._steps(f"{request.grant}: about to be sent")
        self._requests.append(request)
        if self._gates:
            await self._wait(self._gates.popleft(), request.deadline)
        await self._steps(f"{request.grant}: received")
        if self.poisoned & {request.presented, request.install_id}:
            raise OutcomeUnknown("http_500")
        answer = self._answers.popleft() if self._answers else _unchanged
        if isinstance(answer, ProviderFault):
            raise answer
        pair = act()
        await self._steps(f"{request.grant}: acted on")
        if isinstance(answer, AnswerLost):
            raise OutcomeUnknown("timeout")
        return answer(pair)

    async def _wait(self, gate: Gate, deadline: datetime) -> None:
        gate.arrived.set()
        opened = asyncio.ensure_future(gate.opened.wait())
        too_late = asyncio.ensure_future(self._clock.sleep(deadline - self._clock.now()))
        try:
            await asyncio.wait({opened, too_late}, return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                raise OutcomeUnknown("timeout")
        finally:
            opened.cancel()
            too_late.cancel()


def _unchanged(pair: IssuedTokens) -> IssuedTokens:
    return pair
