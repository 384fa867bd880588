"""The TokenEndpoint port over a simulated network, with the ledger that judges P1."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from broker.domain.apps import EnvoyApp
from broker.domain.errors import ClientRefused, Limited, NotSent, OutcomeUnknown, ProviderFault
from broker.domain.installs import IssuedTokens
from broker.domain.secret import Secret
from broker.ports import Clock
from tests.simulation.network import Network
from tests.simulation.world import Presentation, World


class SimulatedEndpoint:
    """One replica's way to Envoy."""

    def __init__(self, world: World, network: Network, clock: Clock) -> None:
        self._world = world
        self._network = network
        self._clock = clock

    async def refresh(self, app: EnvoyApp, refresh_token: Secret, deadline: datetime) -> IssuedTokens:
        """See TokenEndpoint."""
        token, world = refresh_token.reveal(), self._world
        pair = world.issuer.by_refresh_token[token]
        await self._leave()
        presentation = self._present(token)

        def act(requested_at: datetime) -> IssuedTokens:
            return world.issuer.refresh(token, world.now(), requested_at)

        try:
            issued = await self._call(app, pair.install_id, f"presents {token}", act, deadline)
        except OutcomeUnknown:
            presentation.outcome_known = False
            raise
        except ProviderFault:
            presentation.outcome_known = True
            raise
        except asyncio.CancelledError:
            presentation.outcome_known = False
            raise
        presentation.outcome_known = True
        return issued

    async def mint(self, app: EnvoyApp, install_id: str, deadline: datetime) -> IssuedTokens:
        """See TokenEndpoint."""
        await self._leave()

        def act(requested_at: datetime) -> IssuedTokens:
            return self._world.issuer.mint(install_id, self._world.now(), requested_at)

        return await self._call(app, install_id, f"mints for {install_id}", act, deadline)

    async def _leave(self) -> None:
        await self._network.step("send")
        if self._world.chance(self._world.mood.not_sent):
            raise NotSent("connect_failed")

    def _present(self, token: str) -> Presentation:
        """Judge P1 at the moment of sending."""
        world = self._world
        presentation = Presentation(self._network.name, world.loop.time())
        for earlier in world.presentations.setdefault(token, []):
            forgotten = any(earlier.at <= failover for failover in world.failed_over_at)
            if earlier.outcome_known is None and not forgotten:
                world.breaks("P1", f"{token} presented twice at once, by {earlier.by} and {presentation.by}")
            elif earlier.outcome_known is False and not forgotten:
                world.breaks("P1", f"{token} presented again after an unknown outcome, by {presentation.by}")
        world.presentations[token].append(presentation)
        return presentation

    async def _call(
        self,
        _app: EnvoyApp,
        install_id: str,
        what: str,
        act: Callable[[datetime], IssuedTokens],
        deadline: datetime,
    ) -> IssuedTokens:
        world, mood = self._world, self._world.mood
        requested_at = self._clock.now()
        left = (deadline - requested_at).total_seconds()
        world.calls_at.append(world.loop.time())
        world.note(self._network.name, what)
        takes = (
            world.dice.uniform(0.05, 0.4) if not world.chance(mood.envoy_slow) else world.dice.uniform(3, 60)
        )
        if world.chance(mood.late_processing):
            # Envoy acts long after its caller has given up.
            world.loop.call_later(left + world.dice.uniform(0, 90), self._act_late, install_id, act)
            takes = left + 1
        try:
            await self._network.sleep(min(takes, left))
        except asyncio.CancelledError:
            # Its sender was killed; the request had left.
            if world.chance(0.6):
                self._act_late(install_id, act)
            raise
        if takes >= left:
            if takes < left + 1 and world.chance(0.5):
                self._act_late(install_id, act)
            raise OutcomeUnknown("timeout")
        if refused := self._refusal():
            raise refused
        issued = act(requested_at)
        if world.chance(mood.lost_answers):
            world.note(self._network.name, f"{what}: the answer is lost")
            raise OutcomeUnknown("connection_lost")
        await self._network.step("answered")
        return issued

    def _refusal(self) -> ProviderFault | None:
        world, mood = self._world, self._world.mood
        if world.chance(mood.client_refused):
            return ClientRefused("invalid_client", named=True)
        if world.chance(mood.envoy_asks_for_patience):
            wait = timedelta(seconds=world.dice.uniform(1, 20)) if world.chance(0.7) else None
            return Limited(wait) if world.chance(0.5) else OutcomeUnknown("status_503", wait)
        return OutcomeUnknown("status_500") if world.chance(mood.envoy_errors) else None

    def _act_late(self, install_id: str, act: Callable[[datetime], IssuedTokens]) -> None:
        world = self._world
        world.processed_late.add(install_id)
        try:
            act(world.now())
            world.note("ENVOY", f"acts late for {install_id}")
        except ProviderFault:
            world.note("ENVOY", f"refuses late for {install_id}")
