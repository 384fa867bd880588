"""The refresh protocol: how one process, out of many, fetches an install's next token pair.

THEORY OF OPERATION

Envoy gives an app one pair per install: an access token, and a refresh token that buys the next pair. It
may take a refresh token once only, and may revoke everything if it sees one twice. Many callers on many
replicas find the same token expired at the same moment; any of us may be killed at any line; and an answer
may be lost after Envoy has acted. What must hold all the same: a refresh token is presented at most once at
a time, and never again once nobody knows what became of it (P1); and no install is lost for good (P2), since
the grant `plugin_install` (a *mint*) always brings a fresh pair for an app that is installed.

 1. JOIN.  Callers of one process that want the same install share one task (joins.py). The task belongs to
    none of them: a caller that is cancelled or runs out of time leaves it running.

 2. CLAIM.  The task waits for its turn: for a slot of this process, and a call out of the budget that all
    replicas share (provider_gate.py). Then a short transaction locks the install's row. If the generation
    has moved, another replica has been faster: adopt its token, and stop. If another's claim stands, let
    everything go and look again soon, or when told. Else write a claim, with the next *attempt number*, a
    random id, an end on the database's clock, and the *intent*: `in_doubt` = "an attempt is under way, and
    nobody knows its outcome". COMMIT. Nothing is sent unless that committed.
       If the install was in doubt already, an earlier attempt was killed or cut off: its refresh token
    may be spent. The claim then comes without it, and the attempt mints.

 3. CALL.  No transaction is open while Envoy works. Both calls an attempt may make (present the refresh
    token, and one mint if that is refused) end a margin before the claim does, by our own steady clock, so
    two holders never call at once.

 4. KEEP.  A short transaction stores the pair if no *later attempt* has stored: the attempt number is the
    fence. Not the claim: a holder that was stopped past its claim may bring the only live pair. Not the
    generation: then a late refresh would beat a newer mint. `in_doubt` is cleared only if no later attempt
    has begun; a pair that comes later than a later attempt's claim sets it again, and not even the attempt
    under way may then clear it: which of the pairs Envoy issued last nobody knows, and the next attempt mints.
    So does a pair whose claim the database no longer knows, or knows by the same number and another id: it
    has forgotten commits. A store that fails is tried again behind the scenes (pair_keeper.py); the pair is
    served from this process's memory meanwhile.

 5. TELL.  This process's cache learns of the pair at once, other replicas by a hint, or when they next look
    (changes.py).

How an attempt without a pair is resolved (resolutions.py):

    not sent                nothing was spent: the intent is taken back
    429                     nothing was spent: the intent is taken back; every replica waits as Envoy asks
    client refused          nothing was spent: the intent is taken back; the app's circuit opens
    refresh token refused   one mint within the same attempt
    mint refused            REAUTHORIZATION_REQUIRED: the company must act; the next webhook revives it
    another's company       the pair is dropped, and as above; nobody gets a token until somebody has looked
    anything else           unknown: the intent stays, and the next attempt mints
"""

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from broker.domain.claims import BackingOff, Claim, ClaimHeld, ClaimTerms, Purpose
from broker.domain.errors import (
    BrokerError,
    ClientCredentialsRefused,
    InstallNotFound,
    ProviderUnavailable,
    ReauthorizationRequired,
    RetryableError,
    SealBroken,
)
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding
from broker.domain.provider_health import CLIENT_REFUSED
from broker.domain.webhooks import RouteWebhook, UninstalledWebhook
from broker.ports import Clock, InstallStore, Randomness
from broker.service.attempts import Attempts, RefreshTiming
from broker.service.changes import Changes
from broker.service.joins import Flight, Joins
from broker.service.provider_gate import ProviderGate
from broker.service.resolutions import unavailable
from broker.telemetry import metrics, spans

log = structlog.get_logger(__name__)

POLL_INTERVAL: Final = timedelta(milliseconds=200)
# A waiter outlives this many claims of others before it gives up.
PATIENCE_IN_CLAIMS: Final = 2


class Refresher:
    """Fetches pairs by the protocol above."""

    def __init__(
        self,
        *,
        store: InstallStore,
        attempts: Attempts,
        gate: ProviderGate,
        changes: Changes,
        clock: Clock,
        randomness: Randomness,
        timing: RefreshTiming,
        owner: str,
        max_waiting: int,
    ) -> None:
        """`max_waiting` bounds the installs whose callers wait here for a pair."""
        self._store = store
        self._attempts = attempts
        self._gate = gate
        self._changes = changes
        self._clock = clock
        self._randomness = randomness
        self._timing = timing
        self._owner = owner
        self._joins = Joins(self._fetch, gate.promote, max_waiting=max_waiting)

    def __len__(self) -> int:
        """How many installs have a task here."""
        return len(self._joins)

    @property
    def pairs_not_stored(self) -> int:
        """How many pairs this process holds that the store has not taken yet."""
        return self._attempts.pairs_not_stored

    async def refresh(self, key: InstallKey, seen_generation: int, purpose: Purpose = Purpose.DUE) -> Holding:
        """A holding newer than `seen_generation`, by whoever fetched it.

        Raises:
            InstallNotFound, ReauthorizationRequired, ClientCredentialsRefused, ProviderUnavailable,
            StoreUnavailable, Overloaded.
        """
        return await self._joins.join((key, self._terms(purpose, seen_generation)))

    def refresh_behind(self, key: InstallKey, seen_generation: int) -> "asyncio.Task[Holding | None] | None":
        """Begin a refresh that nobody waits for; it does not wait for another's claim either.

        It ends in None where another was faster. None at once if there is no room.
        """
        return self._joins.start((key, self._terms(Purpose.DUE, seen_generation)))

    async def exchange(self, webhook: RouteWebhook | UninstalledWebhook) -> Holding:
        """What Envoy says to a verified webhook, by mint; the same webhook again asks nothing.

        After an uninstall that is the tombstone, or a new pair if the app is installed all the same.
        Raises as `refresh` does.
        """
        purpose = Purpose.EXCHANGE if isinstance(webhook, RouteWebhook) else Purpose.UNINSTALL
        return await self._joins.join((webhook.key, self._terms(purpose, webhook_digest=webhook.digest)))

    async def drain(self) -> None:
        """Wait until every attempt under way is resolved or kept."""
        await self._joins.landed()
        await self._attempts.drain()

    def _terms(
        self, purpose: Purpose, seen_generation: int | None = None, webhook_digest: bytes | None = None
    ) -> ClaimTerms:
        return ClaimTerms(self._owner, self._timing.claim, purpose, seen_generation, webhook_digest)

    async def _fetch(self, flight: Flight, patient: bool) -> Holding | None:
        key, _ = flight
        try:
            return await self._pursue(flight, patient=patient)
        except Exception as error:
            # Behind a stale token nobody waits who could tell.
            known = isinstance(error, BrokerError) and not isinstance(error, SealBroken)
            log.log(
                logging.INFO if known else logging.ERROR,
                "refresh.ended",
                **key._asdict(),
                error=type(error).__name__,
                exc_info=not known,
            )
            raise

    async def _pursue(self, flight: Flight, *, patient: bool) -> Holding | None:
        """Claim and attempt, or wait for whoever does."""
        key, terms = flight
        give_up_at = self._clock.now() + self._timing.claim * PATIENCE_IN_CLAIMS
        while True:
            try:
                answer = await self._attempt(flight, patient=patient)
            except (ProviderUnavailable, ClientCredentialsRefused):
                # While calls are held, another replica's probe may have brought this very pair.
                held = patient and key.plugin_id in self._gate.held_apps()
                found = await self._look(key) if held else None
                if found is None or not _is_newer(found, terms):
                    raise
                return found
            if answer is None or isinstance(answer, Holding):
                return answer
            holding = await self._wait(key, terms, min(give_up_at, self._clock.now() + answer.ends_in))
            if holding is not None:
                return holding
            if self._clock.now() >= give_up_at:
                raise ProviderUnavailable("another replica is still fetching this token", POLL_INTERVAL)

    async def _attempt(self, flight: Flight, *, patient: bool) -> Holding | ClaimHeld | None:
        """Claim, when it is this flight's turn, and make the attempt; or adopt what stands there already.

        None for who is not patient, where another was faster.
        """
        key, terms = flight
        insist = terms.purpose is not Purpose.DUE
        admitted = self._gate.admitted(key.plugin_id, lambda: self._joins.is_awaited(flight), insist=insist)
        async with admitted as admission:
            answer = await self._claim(flight, skip_locked=not patient)
            if isinstance(answer, Claim):
                admission.spend()
                return await self._attempts.make(answer)
        if isinstance(answer, Holding):
            self._changes.learn(answer)
        if not patient:
            metrics.claim_collisions.add(1)
            return None
        return answer

    async def _wait(self, key: InstallKey, terms: ClaimTerms, until: datetime) -> Holding | None:
        """Wait for the end of another's claim, holding nothing; the pair it brought, if it did and that will do."""
        began = self._clock.now()
        with spans.in_span(spans.WAIT_FOR_CLAIM):
            try:
                return await self._watch(key, terms, until)
            finally:
                metrics.claim_waits.record((self._clock.now() - began).total_seconds())

    async def _watch(self, key: InstallKey, terms: ClaimTerms, until: datetime) -> Holding | None:
        while (now := self._clock.now()) < until:
            pause = POLL_INTERVAL * (0.5 + self._randomness.fraction())
            await self._changes.wait(key, min(pause, until - now))
            asked_at = self._clock.now()
            holding = await self._store.find_holding(key)
            if holding is None:
                raise InstallNotFound
            self._changes.learn(holding, asked_at)
            if _is_newer(holding, terms):
                return holding
            if holding.install.claim_ends_at is None:
                return None
        return None

    async def _claim(self, flight: Flight, *, skip_locked: bool) -> Claim | Holding | ClaimHeld:
        key, terms = flight
        terms = replace(terms, traceparent=self._joins.traceparent(flight))
        with spans.span(spans.CLAIM):
            try:
                answer = await self._store.claim(key, terms, skip_locked=skip_locked)
            except (InstallNotFound, ReauthorizationRequired):
                await self._look(key)  # So that this process asks no more.
                raise
        if isinstance(answer, BackingOff):
            self._changes.learn(answer.holding)
            if answer.failure.kind == CLIENT_REFUSED:
                raise ClientCredentialsRefused
            raise unavailable(answer.failure.kind, answer.retry_in)
        return answer

    async def _look(self, key: InstallKey) -> Holding | None:
        """What stands there now, which this process then knows too; None if the store does not say."""
        asked_at = self._clock.now()
        try:
            holding = await self._store.find_holding(key)
        except RetryableError:
            return None
        if holding is not None:
            self._changes.learn(holding, asked_at)
        return holding


def _is_newer(holding: Holding, terms: ClaimTerms) -> bool:
    """Whether this is the pair that was asked for. A webhook wants what Envoy says now, whatever is stored."""
    return terms.seen_generation is not None and holding.install.generation > terms.seen_generation
