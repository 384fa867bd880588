"""Who may call Envoy, and when: the slots of this process, and the budget and the circuit that all replicas share.

The shared part stands in domain/provider_health.py. Calls are leased in advance and in batches, so that a refresh
under load costs no transaction for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from broker.domain.errors import (
    BrokerError,
    ClientCredentialsRefused,
    ProviderFault,
    ProviderUnavailable,
    RetryableError,
)
from broker.domain.identifiers import InstallKey
from broker.domain.provider_health import CLIENT_REFUSED, Lease, ProviderHealth
from broker.ports import Clock, Hints, ProviderHealthStore
from broker.service.slots import IsUrgent, Queue, Slots
from broker.telemetry import metrics, spans

log = structlog.get_logger(__name__)

# A leased call that was not made by then is forfeited: another replica may want it.
LEASE_LIFE: Final = timedelta(seconds=2)
# Of a second's budget, what a busy replica leases ahead of need.
AHEAD: Final = timedelta(milliseconds=250)
# However long the bucket takes to fill, look again by then: the circuit may have opened.
LONGEST_PAUSE: Final = timedelta(seconds=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _App:
    """An app's share in this process: leased calls left, who waits for one, and what is known of the circuit."""

    queue: Queue
    calls: int = 0
    calls_until: datetime = _NEVER
    last_call_at: datetime = _NEVER
    leasing: asyncio.Task[None] | None = None
    circuit: str = ""
    held_until: datetime = _NEVER
    ailing: bool = False


@dataclass(slots=True)
class Admission:
    """A slot and a leased call. `spend` it before the call; what was not spent goes back."""

    spent: bool = False

    def spend(self) -> None:
        """The call is about to be made."""
        self.spent = True


class ProviderGate:
    """Admits attempts to Envoy."""

    def __init__(
        self,
        health: ProviderHealthStore,
        clock: Clock,
        hints: Hints,
        *,
        slots: int,
        calls_per_second: float,
        patience: timedelta,
    ) -> None:
        """`patience` bounds the wait for a slot, and then that for a call."""
        self._health = health
        self._clock = clock
        self._hints = hints
        self._slots = Slots(slots, Queue(clock, patience))
        self._patience = patience
        self._ahead = int(calls_per_second * AHEAD.total_seconds())
        self._apps: dict[str, _App] = {}

    @asynccontextmanager
    async def admitted(
        self, plugin_id: str, is_urgent: IsUrgent, *, insist: bool = False
    ) -> AsyncIterator[Admission]:
        """Wait for a slot and a call. `insist`: see provider_health.leased.

        Raises:
            ProviderUnavailable, ClientCredentialsRefused: the circuit is open.
            Overloaded: it took too long.
            StoreUnavailable.
        """
        app = self._app(plugin_id)
        if not insist:
            self._refuse_if_held(app)
        began = self._clock.now()
        with spans.in_span(spans.TURN):
            await self._take_turn(plugin_id, app, is_urgent, insist=insist)
        metrics.turn_waits.record((self._clock.now() - began).total_seconds())
        admission = Admission()
        try:
            yield admission
        finally:
            if not admission.spent:
                app.calls += 1
            self._slots.release()

    def promote(self) -> None:
        """Somebody has become urgent."""
        self._slots.call()

    def overdraw(self, plugin_id: str) -> None:
        """An attempt makes a second call. It was not leased, so the next lease makes up for it."""
        self._app(plugin_id).calls -= 1

    def held_apps(self) -> dict[str, str]:
        """For which apps the circuit is open as far as this process knows, and why."""
        now = self._clock.now()
        return {plugin_id: app.circuit for plugin_id, app in self._apps.items() if now < app.held_until}

    def forget(self, plugin_id: str) -> None:
        """Another replica has news of this app: what was leased is forfeited, and the next call asks anew."""
        app = self._apps.get(plugin_id)
        if app is not None:
            app.calls, app.held_until = min(app.calls, 0), _NEVER

    async def report(self, key: InstallKey, fault: ProviderFault | None) -> None:
        """Tell the replicas how a call ended; None: Envoy served. That costs nothing while all is well."""
        app = self._app(key.plugin_id)
        if fault is None and not app.ailing:
            return
        try:
            health = await self._health.report(key.plugin_id, key.install_id, fault)
        except RetryableError as error:
            log.warning("provider.report_failed", plugin_id=key.plugin_id, error=str(error))
            return
        self._note(key.plugin_id, app, health)

    def _app(self, plugin_id: str) -> _App:
        if plugin_id not in self._apps:
            self._apps[plugin_id] = _App(Queue(self._clock, self._patience))
        return self._apps[plugin_id]

    def _note(self, plugin_id: str, app: _App, health: ProviderHealth) -> None:
        app.ailing = health.is_ailing
        if not health.is_open and app.circuit:
            log.info("provider.circuit_closed", plugin_id=plugin_id)
            app.circuit, app.held_until = "", _NEVER
            self._hints.tell_health(plugin_id)
        elif health.is_open and not app.circuit:
            log.error("provider.circuit_opened", plugin_id=plugin_id, kind=health.kind)
            app.circuit, app.calls = health.kind, 0
            self._hints.tell_health(plugin_id)

    def _refuse_if_held(self, app: _App) -> None:
        if self._clock.now() < app.held_until:
            raise self._refusal(app)

    def _refusal(self, app: _App) -> BrokerError:
        if app.circuit == CLIENT_REFUSED:
            return ClientCredentialsRefused()
        retry_in = app.held_until - self._clock.now()
        return ProviderUnavailable(
            f"Envoy is not being called for now ({app.circuit}); retry later", retry_in
        )

    async def _take_turn(self, plugin_id: str, app: _App, is_urgent: IsUrgent, *, insist: bool) -> None:
        await self._slots.acquire(is_urgent)
        try:
            if not (insist and await self._lease_one(plugin_id, app)):
                await self._take_call(plugin_id, app, is_urgent)
        except BaseException:
            self._slots.release()
            raise

    async def _take_call(self, plugin_id: str, app: _App, is_urgent: IsUrgent) -> None:
        now = self._clock.now()
        if now >= app.calls_until:
            app.calls = min(app.calls, 0)
        if app.calls > 0 and not app.queue:
            self._use(app)
            return
        if app.leasing is None:
            app.leasing = asyncio.create_task(self._lease(plugin_id, app))
        await app.queue.wait(is_urgent, lambda: self._give_back(app))

    async def _lease_one(self, plugin_id: str, app: _App) -> bool:
        lease = await self._health.lease(plugin_id, 1, urgent=True, insist=True)
        self._learn(app, lease)
        if lease.circuit:
            raise self._refusal(app)
        return lease.calls > 0

    def _learn(self, app: _App, lease: Lease) -> None:
        app.ailing = lease.ailing
        if lease.circuit:
            app.circuit, app.held_until = lease.circuit, self._clock.now() + lease.retry_in
        elif not lease.ailing:
            app.circuit = ""

    def _use(self, app: _App) -> None:
        app.calls -= 1
        app.last_call_at = self._clock.now()

    def _give_back(self, app: _App) -> None:
        app.calls += 1

    async def _lease(self, plugin_id: str, app: _App) -> None:
        """Lease calls as long as somebody waits for one."""
        try:
            while app.queue:
                urgent = app.queue.urgent
                waiting = urgent or len(app.queue)
                now = self._clock.now()
                ahead = self._ahead if now < app.last_call_at + LEASE_LIFE else 0
                want = waiting - min(app.calls, 0) + ahead
                lease = await self._health.lease(plugin_id, want, urgent=urgent > 0)
                self._learn(app, lease)
                if lease.circuit:
                    app.queue.refuse(self._refusal(app))
                    return
                app.calls += lease.calls
                app.calls_until = self._clock.now() + LEASE_LIFE
                while app.calls > 0 and app.queue.call_next():
                    self._use(app)
                if app.queue and lease.calls < want:
                    await self._clock.sleep(min(lease.retry_in, LONGEST_PAUSE))
        except RetryableError as error:
            app.queue.refuse(error)
        finally:
            app.leasing = None
