"""What the services need of the world, in the domain's verbs, each with its errors.

`adapters/` has one implementation of each, `tests/fakes/` another, and `tests/contract/` holds both to
the same behaviour. A port raises what its docstring names and nothing else that a service should catch.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from broker.domain.apps import EnvoyApp
from broker.domain.audit import AuditRecord
from broker.domain.callers import Caller, Credentials, Operation, Subject
from broker.domain.census import CensusOfInstalls
from broker.domain.claims import BackingOff, Claim, ClaimHeld, ClaimTerms, Resolution
from broker.domain.errors import ProviderFault
from broker.domain.history import AttemptRecord
from broker.domain.identifiers import InstallKey
from broker.domain.installs import DueInstall, Holding, Install, InstallFilter, IssuedTokens, Standing
from broker.domain.provider_health import Lease, ProviderHealth
from broker.domain.secret import Secret
from broker.domain.webhooks import RouteWebhook, Webhook


class Clock(Protocol):
    """Time that never jumps, and the art of waiting in it."""

    def now(self) -> datetime:
        """The broker's time, UTC: it advances like a monotonic clock, whatever happens to the wall clock."""
        ...

    async def sleep(self, duration: timedelta) -> None:
        """Wait for `duration`."""
        ...


class Randomness(Protocol):
    """Where jitter comes from."""

    def fraction(self) -> float:
        """A random number in [0, 1)."""
        ...


class InstallStore(Protocol):
    """Installs, their sealed tokens and the claims on them.

    Every method may raise StoreUnavailable; those that open tokens SealBroken. Each touches one install
    by its key, save `page`, `due` and `standings`. Times are translated to the broker's clock, save the history's.
    """

    async def find(self, key: InstallKey) -> Install | None:
        """The install, tombstones included, without opening any token."""
        ...

    async def find_holding(self, key: InstallKey) -> Holding | None:
        """The install with its access token."""
        ...

    async def standings(self, keys: Sequence[InstallKey]) -> Mapping[InstallKey, Standing]:
        """How these installs stand, without opening any token. Those that are unknown are left out."""
        ...

    async def history(self, key: InstallKey) -> Sequence[AttemptRecord]:
        """The last attempts that are over (at most KEPT_ATTEMPTS), the newest first; none of an unknown install."""
        ...

    async def page(
        self, install_filter: InstallFilter, *, after: InstallKey | None, limit: int
    ) -> Sequence[Install]:
        """At most `limit` installs behind `after`, in the order of their keys."""
        ...

    async def enrol(self, key: InstallKey, company_id: str) -> None:
        """Make the install known, PROVISIONAL and without a token, unless it is known already.

        A known one that Envoy refused, or that was uninstalled, then owes an exchange: it is due until Envoy answers.
        """
        ...

    async def due(self, limit: int, *, except_for: Sequence[str] = ()) -> Sequence[DueInstall]:
        """At most `limit` installs that want an attempt, the longest overdue first. Locks nothing.

        Those of the apps `except_for` (plugin ids) are left out.
        """
        ...

    async def claim(
        self, key: InstallKey, terms: ClaimTerms, *, skip_locked: bool = False
    ) -> Claim | Holding | ClaimHeld | BackingOff:
        """Take the right to one attempt, and write the intent, in one committed transaction.

        A Holding means that there is nothing to fetch: another was faster. If the commit's fate is unknown
        this raises, and nothing may be sent. With `skip_locked` a row that another has locked counts as held.

        Raises:
            InstallNotFound: unknown, or a tombstone and no webhook asks.
            ReauthorizationRequired: Envoy refused this install, and neither webhook nor operator asks.
        """
        ...

    async def keep(self, claim: Claim, issued: IssuedTokens) -> Holding:
        """Store a pair, fenced by the attempt number, and return what stands there then.

        The pair is stored if no later attempt has stored, whoever holds the claim by now. A pair that loses
        leaves the install in doubt, and so does one whose claim the database does not know (it forgot it in a
        failover). May be called again with the same arguments when its fate is unknown.

        Raises:
            InstallNotFound: a tombstone was made meanwhile; the pair is dropped.
        """
        ...

    async def resolve(self, claim: Claim, resolution: Resolution) -> Holding:
        """End an attempt that brought no pair; if a later one has begun, change nothing."""
        ...

    async def keep_provisional(self, webhook: RouteWebhook, issued_at: datetime) -> Holding:
        """Keep a webhook's own token if the install has never had a token set; return what stands there."""
        ...

    async def reject(self, key: InstallKey, generation: int, cool_down: timedelta) -> tuple[Holding, bool]:
        """Take `generation` out of use if it is the newest; return what stands there, and whether this did it.

        Nothing is done within `cool_down` of the last time that it was.

        Raises:
            InstallNotFound: unknown.
        """
        ...

    async def bury(self, key: InstallKey) -> Install:
        """Destroy the tokens and leave a tombstone; whatever attempt is under way will not store.

        Raises:
            InstallNotFound: unknown.
        """
        ...


class ProviderHealthStore(Protocol):
    """What the replicas know together of Envoy's health, an app at a time: see domain/provider_health.py.

    Every method may raise StoreUnavailable.
    """

    async def lease(self, plugin_id: str, want: int, *, urgent: bool, insist: bool = False) -> Lease:
        """Take up to `want` calls out of the budget, or the one probe of an open circuit.

        `urgent`: somebody waits. `insist`: see provider_health.leased.
        """
        ...

    async def report(self, plugin_id: str, install_id: str, fault: ProviderFault | None) -> ProviderHealth:
        """Tell how a call ended, with a pair or with `fault`; return what the replicas know now."""
        ...


class Census(Protocol):
    """How many installs there are, and how the apps fare: counted rarely, and once for all replicas.

    May raise StoreUnavailable.
    """

    async def take(self, max_age: timedelta) -> CensusOfInstalls | None:
        """What was counted less than `max_age` ago, or now; older while another replica counts; None before the first."""
        ...


class Hints(Protocol):
    """Tells other replicas that something has changed. Never waits, never fails; and every hint may be lost."""

    @property
    def are_heard(self) -> bool:
        """Whether the others' hints reach this process, as far as it knows."""
        ...

    def tell(self, key: InstallKey) -> None:
        """Say some time soon that an install has changed."""
        ...

    def tell_health(self, plugin_id: str) -> None:
        """Say some time soon that the circuit of an app has opened or closed."""
        ...


class TokenEndpoint(Protocol):
    """Envoy's token endpoint.

    Both methods raise NotSent, Limited, GrantRefused, ClientRefused or OutcomeUnknown, and end by
    `deadline` on the broker's clock.
    """

    async def refresh(self, app: EnvoyApp, refresh_token: Secret, deadline: datetime) -> IssuedTokens:
        """Present a refresh token: grant `refresh_token`."""
        ...

    async def mint(self, app: EnvoyApp, install_id: str, deadline: datetime) -> IssuedTokens:
        """Ask for a first or a fresh pair: grant `plugin_install`."""
        ...


class WebhookReader(Protocol):
    """Verifies Envoy's webhooks and reads them."""

    def read(self, app: EnvoyApp, body: bytes, signature: str) -> Webhook:
        """What the webhook says. The signature is checked on the raw body before anything else.

        Raises:
            SignatureRefused: it is missing or does not fit.
            InvalidField: the body is too large, no JSON, or says something impossible.
        """
        ...


class Cipher(Protocol):
    """Seals what is stored. `context` is bound to the ciphertext: another context does not open it."""

    def seal(self, secret: Secret, context: bytes) -> bytes:
        """The ciphertext."""
        ...

    def open(self, sealed: bytes, context: bytes) -> Secret:
        """The secret.

        Raises:
            SealBroken: a wrong key or context, or a changed ciphertext.
        """
        ...

    def is_foreign(self, sealed: bytes) -> bool:
        """Whether a ciphertext names a key that is not in the keyset: then it is not the ciphertext that is wrong."""
        ...


class Authenticator(Protocol):
    """Tells who calls."""

    async def authenticate(self, credentials: Credentials) -> Caller:
        """Who has shown these credentials.

        Raises:
            CallerUnauthenticated: nobody that is known; the log says why, the caller is not told.
        """
        ...


class Authorizer(Protocol):
    """The policy: who may do what. What it does not give is refused."""

    @property
    def version(self) -> str:
        """Names the policy in force; another one has another version."""
        ...

    def allows(self, caller: Caller, operation: Operation, subject: Subject) -> bool:
        """Whether `caller` may. Never raises: what can't be decided is refused."""
        ...


class AuditLog(Protocol):
    """The record of what callers did."""

    async def write(self, record: AuditRecord) -> None:
        """Return when the record is in every sink.

        Raises:
            AuditUnavailable: it is not, or nobody knows. What it tells of must not happen.
        """
        ...

    def fingerprint(self, token: Secret) -> str:
        """A keyed fingerprint, for a record: the same token has the same, and nobody without the key can guess one."""
        ...
