"""Envoy, a database and replicas of the broker over them, wired as app.py wires the real ones."""

from datetime import timedelta
from typing import Final

from broker.domain.apps import Apps
from broker.domain.claims import Claim
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding
from broker.service.accept_route_webhook import AcceptRouteWebhook
from broker.service.get_token import GetToken
from broker.service.installs import Installs
from broker.service.refresher import Refresher
from broker.service.token_cache import TokenCache
from tests.fakes.clock import FakeClock
from tests.fakes.install_store import InMemoryInstallStore
from tests.fakes.installs_table import InstallsTable
from tests.fakes.issuer import Grantee, StrictIssuer
from tests.fakes.randomness import FakeRandomness
from tests.fakes.samples import APP, APPS, CIPHER, COMPANY, KEY, TIMING, due, exchange
from tests.fakes.steps import Steps
from tests.fakes.token_endpoint import FakeTokenEndpoint, Request
from tests.fakes.webhook_reader import FakeWebhookReader

MAX_STALENESS: Final = timedelta(seconds=30)


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
        max_in_flight: int = 64,
        trust_vouched: bool = False,
    ) -> None:
        clock = world.clock
        self.store = InMemoryInstallStore(world.table, clock, steps)
        self.endpoint = FakeTokenEndpoint(clock, world.issuer, world.requests, steps)
        self.cache = TokenCache(max_entries=1000, max_staleness=MAX_STALENESS)
        self.reader = FakeWebhookReader()
        self.randomness = FakeRandomness()
        self.changes: list[Holding] = []
        self._clock = clock
        self.refresher = Refresher(
            store=self.store,
            endpoint=self.endpoint,
            apps=apps,
            clock=clock,
            randomness=self.randomness,
            timing=TIMING,
            owner="a-replica",
            max_in_flight=max_in_flight,
            on_change=self._on_change,
        )
        self.get_token = GetToken(
            apps=apps, store=self.store, cache=self.cache, refresher=self.refresher, clock=clock
        )
        self.accept = AcceptRouteWebhook(
            apps=apps,
            reader=self.reader,
            store=self.store,
            refresher=self.refresher,
            clock=clock,
            on_change=self._on_change,
            trust_vouched=trust_vouched,
        )
        self.installs = Installs(
            apps=apps, store=self.store, refresher=self.refresher, on_change=self._on_change
        )

    def _on_change(self, holding: Holding) -> None:
        self.changes.append(holding)
        self.cache.put(holding, self._clock.now())
