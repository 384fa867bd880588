"""The refresh protocol: how one process, out of many, fetches an install's next token pair.

THEORY OF OPERATION

Envoy gives an app one pair per install: an access token, and a refresh token that buys the next pair. It
may take a refresh token once only, and may revoke everything if it sees one twice. Many callers on many
replicas find the same token expired at the same moment; any of us may be killed at any line; and an answer
may be lost after Envoy has acted. What must hold all the same: a refresh token is presented at most once at
a time, and never again once nobody knows what became of it (P1); and no install is lost for good (P2), since
the grant `plugin_install` (a *mint*) always brings a fresh pair for an app that is installed.

 1. JOIN.  Callers of one process that want the same install share one task. The task belongs to none of
    them: a caller that is cancelled or runs out of time leaves it running.

 2. CLAIM.  A short transaction locks the install's row. If the generation has moved, another replica has
    been faster: adopt its token, and stop. If another's claim stands, let go and look again soon, holding no
    connection. Else write a claim, with the next *attempt number*, an end on the database's clock, and the
    *intent*: `in_doubt` = "an attempt is under way, and nobody knows its outcome". COMMIT. Nothing is sent
    unless that committed.
       If the install was in doubt already, an earlier attempt was killed or cut off: its refresh token
    may be spent. The claim then comes without it, and the attempt mints.

 3. CALL.  No transaction is open while Envoy works. Both calls an attempt may make (present the refresh
    token, and one mint if that is refused) end a margin before the claim does, by our own steady clock, so
    two holders never call at once.

 4. KEEP.  A short transaction stores the pair if no *later attempt* has stored: the attempt number is the
    fence. Not the claim: a holder that was stopped past its claim may bring the only live pair. Not the
    generation: then a late refresh would beat a newer mint. `in_doubt` is cleared only if no later attempt
    has begun; a pair that loses the fence sets it again, so that the next attempt mints.

 5. TELL.  This process's cache learns of the pair at once, other replicas when they next look.

How an attempt without a pair is resolved:

    not sent                nothing was spent: the intent is taken back
    429                     nothing was spent: the intent is taken back; wait as long as Envoy asks
    client refused          nothing was spent: the intent is taken back; the operator must act
    refresh token refused   one mint within the same attempt
    mint refused            REAUTHORIZATION_REQUIRED: the company must act; the next webhook revives it
    anything else           unknown: the intent stays, and the next attempt mints
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from broker import telemetry
from broker.domain.apps import Apps, EnvoyApp
from broker.domain.backoff import full_jitter
from broker.domain.claims import BackingOff, Claim, ClaimHeld, ClaimTerms, Purpose
from broker.domain.errors import (
    BrokerError,
    ClientCredentialsRefused,
    GrantRefused,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    ProviderFault,
    ProviderUnavailable,
    RetryableError,
    SealBroken,
)
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding, IssuedTokens
from broker.domain.webhooks import RouteWebhook
from broker.ports import Clock, InstallStore, Randomness, Resolution, TokenEndpoint
from broker.service.flights import Flights
from broker.service.resolutions import CLIENT_REFUSED, resolve_fault, unavailable

log = structlog.get_logger(__name__)

POLL_INTERVAL: Final = timedelta(milliseconds=200)
OVERLOAD_RETRY: Final = timedelta(milliseconds=500)
# A waiter outlives this many claims of others before it gives up.
PATIENCE_IN_CLAIMS: Final = 2
# With full jitter half a minute of pauses at most, and as many times what the database may take.
KEEP_TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class RefreshTiming:
    """Attributes: call: one request's limit. claim: a claim's life. margin: what calls end ahead of it."""

    call: timedelta
    claim: timedelta
    margin: timedelta


@dataclass(slots=True)
class _Attempt:
    """A claim at work. `must_mint_next`: the stored refresh token is not to be presented again."""

    claim: Claim
    must_mint_next: bool


class Refresher:
    """Fetches pairs by the protocol above. `on_change` is told of every holding it brings or finds."""

    def __init__(
        self,
        *,
        store: InstallStore,
        endpoint: TokenEndpoint,
        apps: Apps,
        clock: Clock,
        randomness: Randomness,
        timing: RefreshTiming,
        owner: str,
        max_in_flight: int,
        on_change: Callable[[Holding], None],
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._apps = apps
        self._clock = clock
        self._randomness = randomness
        self._timing = timing
        self._owner = owner
        self._max_in_flight = max_in_flight
        self._on_change = on_change
        self._flights: Flights[tuple[InstallKey, ClaimTerms], Holding] = Flights()

    async def refresh(self, key: InstallKey, seen_generation: int, purpose: Purpose = Purpose.DUE) -> Holding:
        """A holding newer than `seen_generation`, by whoever fetched it.

        Raises:
            InstallNotFound, ReauthorizationRequired, ClientCredentialsRefused, ProviderUnavailable,
            StoreUnavailable, Overloaded.
        """
        terms = ClaimTerms(self._owner, self._timing.claim, purpose, seen_generation)
        return await self._join(key, terms)

    def refresh_behind(self, key: InstallKey, seen_generation: int) -> None:
        """Begin a refresh that nobody waits for. Does nothing if one is under way, or there is no room."""
        if len(self._flights) < self._max_in_flight:
            terms = ClaimTerms(self._owner, self._timing.claim, Purpose.DUE, seen_generation)
            self._flights.start((key, terms), lambda: self._fetch(key, terms))

    async def exchange(self, webhook: RouteWebhook) -> Holding:
        """A pair for the install of a verified webhook, by mint; the same webhook again fetches nothing.

        Raises as `refresh` does.
        """
        terms = ClaimTerms(self._owner, self._timing.claim, Purpose.EXCHANGE, webhook_digest=webhook.digest)
        return await self._join(webhook.key, terms)

    async def drain(self) -> None:
        """Wait until every attempt under way is resolved or kept."""
        await self._flights.landed()

    async def _join(self, key: InstallKey, terms: ClaimTerms) -> Holding:
        flight = (key, terms)
        if len(self._flights) >= self._max_in_flight and flight not in self._flights:
            raise Overloaded("too many refreshes are under way; retry later", OVERLOAD_RETRY)
        return await self._flights.join(flight, lambda: self._fetch(key, terms))

    async def _fetch(self, key: InstallKey, terms: ClaimTerms) -> Holding:
        attributes = {
            telemetry.PLUGIN_ID: key.plugin_id,
            telemetry.INSTALL_ID: key.install_id,
            telemetry.PURPOSE: terms.purpose.value,
        }
        with telemetry.tracer.start_as_current_span(telemetry.SPAN_REFRESH, attributes=attributes):
            try:
                answer = await self._claim(key, terms)
                holding = answer if isinstance(answer, Holding) else await self._attempt(answer)
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
        self._on_change(holding)
        return holding

    async def _claim(self, key: InstallKey, terms: ClaimTerms) -> Claim | Holding:
        give_up_at = self._clock.now() + self._timing.claim * PATIENCE_IN_CLAIMS
        with telemetry.tracer.start_as_current_span(telemetry.SPAN_CLAIM):
            while True:
                answer = await self._store.claim(key, terms)
                if isinstance(answer, BackingOff):
                    self._on_change(answer.holding)
                    if answer.failure.kind == CLIENT_REFUSED:
                        raise ClientCredentialsRefused
                    raise unavailable(answer.failure.kind, answer.retry_in)
                if not isinstance(answer, ClaimHeld):
                    return answer
                if self._clock.now() >= give_up_at:
                    raise ProviderUnavailable("another replica is still fetching this token", POLL_INTERVAL)
                pause = POLL_INTERVAL * (0.5 + self._randomness.fraction())
                await self._clock.sleep(min(pause, answer.ends_in))

    async def _attempt(self, claim: Claim) -> Holding:
        attempt = _Attempt(claim, must_mint_next=claim.was_in_doubt)
        try:
            issued = await self._call(attempt)
        except ProviderFault as fault:
            raise await self._resolve(attempt, fault) from fault
        if issued is None:
            superseded = Resolution("superseded", timedelta(0), in_doubt=attempt.must_mint_next)
            return await self._store.resolve(claim, superseded)
        holding = await self._keep(claim, issued)
        log.info(
            "refresh.kept",
            **claim.key._asdict(),
            purpose=claim.purpose.value,
            attempt=claim.attempt,
            generation=holding.install.generation,
        )
        return holding

    async def _call(self, attempt: _Attempt) -> IssuedTokens | None:
        """A pair, by the one or two calls an attempt may make; None if another's pair stands there by now."""
        claim = attempt.claim
        app = self._apps.resolve(claim.key.plugin_id)
        if claim.refresh_token is not None:
            try:
                return await self._send(claim, app, "refresh_token")
            except GrantRefused:
                if await self._moved_on(claim):
                    return None
                attempt.must_mint_next = True
        return await self._send(claim, app, "plugin_install")

    async def _moved_on(self, claim: Claim) -> bool:
        """Whether another has been here since: a pair, an attempt, an uninstall.

        Without the store's word nobody has: a mint is always safe.
        """
        try:
            install = await self._store.find(claim.key)
        except RetryableError:
            return False
        return install is not None and (install.generation, install.attempt) != (
            claim.generation,
            claim.attempt,
        )

    async def _send(self, claim: Claim, app: EnvoyApp, grant: str) -> IssuedTokens:
        deadline = min(self._clock.now() + self._timing.call, claim.expires_at - self._timing.margin)
        if self._clock.now() >= deadline:
            raise NotSent("claim_ran_out")
        with telemetry.tracer.start_as_current_span(telemetry.SPAN_CALL) as span:
            span.set_attribute(telemetry.GRANT, grant)
            span.set_attribute(telemetry.ATTEMPT, claim.attempt)
            if grant == "refresh_token" and claim.refresh_token is not None:
                issued = await self._endpoint.refresh(app, claim.refresh_token, deadline)
            else:
                issued = await self._endpoint.mint(app, claim.key.install_id, deadline)
        if claim.company_id and issued.company_id and claim.company_id != issued.company_id:
            raise OutcomeUnknown("company_mismatch")
        return issued

    async def _keep(self, claim: Claim, issued: IssuedTokens) -> Holding:
        """Store the pair. It may be the only live one, so a failing database is tried again, and again."""
        with telemetry.tracer.start_as_current_span(telemetry.SPAN_KEEP):
            for tries in range(1, KEEP_TRIES):
                try:
                    return await self._store.keep(claim, issued)
                except RetryableError as error:
                    log.warning("refresh.keep_failed", tries=tries, error=str(error))
                    await self._clock.sleep(full_jitter(tries, self._randomness.fraction()))
            return await self._store.keep(claim, issued)

    async def _resolve(self, attempt: _Attempt, fault: ProviderFault) -> BrokerError:
        """End an attempt that failed, and say what its waiters are told."""
        claim = attempt.claim
        wait = full_jitter(claim.failures + 1, self._randomness.fraction())
        resolution, error = resolve_fault(fault, wait, must_mint_next=attempt.must_mint_next)
        log.warning(
            "refresh.failed",
            **claim.key._asdict(),
            attempt=claim.attempt,
            kind=fault.kind,
            failures=claim.failures + 1,
        )
        try:
            self._on_change(await self._store.resolve(claim, resolution))
        except RetryableError as store_error:
            # The claim runs out by itself and leaves the install in doubt, which is always safe.
            log.warning("refresh.resolve_failed", error=str(store_error))
        return error
