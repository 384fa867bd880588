"""Envoy, a database and replicas of the broker over them, wired as app.py wires the real ones."""

from datetime import timedelta
from typing import Final

from broker.adapters.anybody import EverythingAllowed, NoRecord
from broker.domain.apps import Apps
from broker.domain.claims import Claim
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding
from broker.domain.provider_health import ProviderHealth, ProviderLimits
from broker.ports import AuditLog, Authorizer
from broker.service.use_cases import Bounds, Ports, UseCases
from tests.fakes.caller import UseCasesOfACaller
from tests.fakes.clock import FakeClock
from tests.fakes.hints import FakeHints
from tests.fakes.install_store import InMemoryInstallStore
from tests.fakes.installs_table import InstallsTable
from tests.fakes.issuer import Grantee, StrictIssuer
from tests.fakes.provider_health import InMemoryProviderHealth
from tests.fakes.randomness import FakeRandomness
from tests.fakes.samples import APP, APPS, CIPHER, CLAIM_LIFE, COMPANY, KEY, TIMING, due, exchange
from tests.fakes.steps import Steps
from tests.fakes.token_endpoint import FakeTokenEndpoint, Request
from tests.fakes.webhook_reader import FakeWebhookReader

MAX_STALENESS: Final = timedelta(seconds=30)
BOUNDS: Final = Bounds(
    owner="a-replica",
    timing=TIMING,
    refreshes_in_flight=64,
    refreshes_waiting=256,
    calls_per_second=1000,
    cache_entries=1000,
    cache_staleness=MAX_STALENESS,
    rejection_cool_down=timedelta(seconds=30),
    sweep_interval=timedelta(seconds=1),
    trust_vouched_webhooks=False,
)


def grantee(key: InstallKey = KEY) -> Grantee:
    """The install as Envoy knows it."""
    return Grantee(APP.client_id, key.install_id)


class World:
    """What all replicas have in common: the time, the database, Envoy.

    Attributes:
        requests: all that reached Envoy, in order, from whichever replica.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.table = InstallsTable(self.clock, CIPHER)
        self.issuer = StrictIssuer()
        self.health: dict[str, ProviderHealth] = {}
        self.hints = FakeHints()
        self.requests: list[Request] = []

    @property
    def grants(self) -> list[str]:
        """The grants asked for, in order."""
        return [request.grant for request in self.requests]

    @property
    def presented(self) -> list[str]:
        """The refresh tokens that were presented, in order."""
        return [request.presented for request in self.requests if request.presented]

    async def install(self, key: InstallKey = KEY) -> Holding:
        """An ACTIVE install with a pair of Envoy's, brought by a webhook."""
        store = InMemoryInstallStore(self.table, self.clock)
        await store.enrol(key, COMPANY)
        claim = await store.claim(key, exchange(b"the install's own"))
        pair = self.issuer.mint(grantee(key), self.clock.now())
        assert isinstance(claim, Claim)
        return await store.keep(claim, pair)

    async def abandon_attempt(self, key: InstallKey = KEY) -> None:
        """Take a claim, and let it end without a word: the install is in doubt."""
        store = InMemoryInstallStore(self.table, self.clock)
        await store.claim(key, due(self.table.rows[key].install.generation, life=timedelta(0)))

    def holds_live_token(self, holding: Holding) -> bool:
        """Whether Envoy would take the token that a replica hands out."""
        token = holding.access_token
        return token is not None and self.issuer.is_live(grantee(holding.install.key), token)


class Replica:
    """One process of the broker, with its own cache and its own clients of the world."""

    def __init__(
        self,
        world: World,
        *,
        steps: Steps | None = None,
        apps: Apps = APPS,
        bounds: Bounds = BOUNDS,
        authorizer: Authorizer | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self.world = world
        clock = world.clock
        self.store = InMemoryInstallStore(world.table, clock, steps)
        self.endpoint = FakeTokenEndpoint(clock, world.issuer, world.requests, steps)
        self.reader = FakeWebhookReader()
        self.randomness = FakeRandomness()
        limits = ProviderLimits(bounds.calls_per_second, probe_life=CLAIM_LIFE)
        self.health = InMemoryProviderHealth(world.health, clock, limits, self.randomness, self.store.faults)
        self.hints = world.hints.joined()
        ports = Ports(
            store=self.store,
            health=self.health,
            endpoint=self.endpoint,
            reader=self.reader,
            hints=self.hints,
            clock=clock,
            randomness=self.randomness,
            authorizer=authorizer or EverythingAllowed(),
            audit=audit or NoRecord(),
        )
        use_cases = UseCases(ports, apps, bounds)
        self.hints.on_hint = use_cases.hinted
        self.hints.on_health_hint = use_cases.health_hinted
        self.cache, self.gate = use_cases.cache, use_cases.gate
        self.refresher, self.scheduler = use_cases.refresher, use_cases.scheduler
        self.accept, self.use_cases = use_cases.accept_route_webhook, use_cases
        somebody = UseCasesOfACaller(use_cases)
        self.get_token, self.batch_get_tokens = somebody.get_token, somebody.batch_get_tokens
        self.report_rejected_token, self.list_installs = (
            somebody.report_rejected_token,
            somebody.list_installs,
        )
        self.installs = somebody.installs
