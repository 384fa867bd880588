"""Every use case of one process, put together over the ports: by app.py over the real ones, by tests over fakes."""

from dataclasses import dataclass
from datetime import timedelta

from broker.domain.apps import Apps
from broker.domain.identifiers import InstallKey
from broker.ports import (
    AuditLog,
    Authorizer,
    Clock,
    Hints,
    InstallStore,
    ProviderHealthStore,
    Randomness,
    TokenEndpoint,
    WebhookReader,
)
from broker.service.accept_route_webhook import AcceptRouteWebhook
from broker.service.attempts import Attempts, RefreshTiming
from broker.service.batch_get_tokens import BatchGetTokens
from broker.service.calls import Guard
from broker.service.changes import Changes
from broker.service.get_token import GetToken
from broker.service.installs import Installs
from broker.service.list_installs import ListInstalls
from broker.service.look_ups import LookUps, Source
from broker.service.provider_gate import ProviderGate
from broker.service.refresher import Refresher
from broker.service.report_rejected_token import ReportRejectedToken
from broker.service.scheduler import Scheduler
from broker.service.token_cache import TokenCache
from broker.service.watch_tokens import WatchTokens


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as the use cases see it."""

    store: InstallStore
    health: ProviderHealthStore
    endpoint: TokenEndpoint
    reader: WebhookReader
    hints: Hints
    clock: Clock
    randomness: Randomness
    authorizer: Authorizer
    audit: AuditLog


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much, how long, how often. docs/settings.md has the words; the names are the settings'.

    Attributes:
        owner: names this process in the claims it takes.
    """

    owner: str
    timing: RefreshTiming
    refreshes_in_flight: int
    refreshes_waiting: int
    calls_per_second: float
    cache_entries: int
    cache_staleness: timedelta
    rejection_cool_down: timedelta
    sweep_interval: timedelta
    trust_vouched_webhooks: bool


class UseCases:
    """The use cases by name.

    Attributes:
        owner: as in Bounds.
        handed_out: how many tokens were handed out, by where they came from.
    """

    def __init__(self, ports: Ports, apps: Apps, bounds: Bounds) -> None:
        store, clock, randomness = ports.store, ports.clock, ports.randomness
        self.owner = bounds.owner
        self.guard = Guard(ports.authorizer, ports.audit, max_decisions=bounds.cache_entries)
        self.cache = TokenCache(max_entries=bounds.cache_entries, max_staleness=bounds.cache_staleness)
        self.changes = changes = Changes(self.cache, clock, ports.hints)
        self.gate = gate = ProviderGate(
            ports.health,
            clock,
            ports.hints,
            slots=bounds.refreshes_in_flight,
            calls_per_second=bounds.calls_per_second,
            patience=bounds.timing.claim,
        )
        self.refresher = refresher = Refresher(
            store=store,
            attempts=Attempts(
                store=store,
                endpoint=ports.endpoint,
                gate=gate,
                changes=changes,
                apps=apps,
                clock=clock,
                randomness=randomness,
                timing=bounds.timing,
            ),
            gate=gate,
            changes=changes,
            clock=clock,
            randomness=randomness,
            timing=bounds.timing,
            owner=bounds.owner,
            max_waiting=bounds.refreshes_waiting,
        )
        self.scheduler = Scheduler(
            store=store,
            refresher=refresher,
            gate=gate,
            clock=clock,
            randomness=randomness,
            interval=bounds.sweep_interval,
            at_once=bounds.refreshes_in_flight,
        )
        self.handed_out = handed_out = dict.fromkeys(Source, 0)
        self._look_ups = look_ups = LookUps(store=store, cache=self.cache, changes=changes, clock=clock)
        self.get_token = GetToken(
            apps=apps,
            cache=self.cache,
            look_ups=look_ups,
            refresher=refresher,
            clock=clock,
            handed_out=handed_out,
        )
        self.watch_tokens = WatchTokens(
            apps=apps,
            store=store,
            cache=self.cache,
            changes=changes,
            look_ups=look_ups,
            guard=self.guard,
            hints=ports.hints,
            clock=clock,
            randomness=randomness,
            staleness=bounds.cache_staleness,
            handed_out=handed_out,
        )
        self.batch_get_tokens = BatchGetTokens(self.get_token)
        self.report_rejected_token = ReportRejectedToken(
            apps=apps,
            store=store,
            cache=self.cache,
            changes=changes,
            refresher=refresher,
            cool_down=bounds.rejection_cool_down,
        )
        self.accept_route_webhook = AcceptRouteWebhook(
            apps=apps,
            reader=ports.reader,
            store=store,
            refresher=refresher,
            clock=clock,
            changes=changes,
            trust_vouched=bounds.trust_vouched_webhooks,
        )
        self.installs = Installs(apps=apps, store=store, refresher=refresher, changes=changes)
        self.list_installs = ListInstalls(store)

    def hinted(self, key: InstallKey) -> None:
        """Another replica says that this install has changed."""
        self.changes.wake(key)
        self._look_ups.look_behind(key)
        self.watch_tokens.hinted(key)

    def health_hinted(self, plugin_id: str) -> None:
        """Another replica says that the circuit of this app has opened or closed."""
        self.gate.forget(plugin_id)
