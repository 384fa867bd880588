"""An attempt: what the holder of a claim does with it. Steps 3 to 5 of the protocol in refresher.py."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from opentelemetry import trace

from broker.domain.apps import Apps, EnvoyApp
from broker.domain.backoff import full_jitter
from broker.domain.claims import Claim, Ending, Resolution, ending_of
from broker.domain.errors import CompanyMismatch, GrantRefused, NotSent, ProviderFault, RetryableError
from broker.domain.installs import Holding, IssuedTokens
from broker.ports import Clock, InstallStore, Randomness, TokenEndpoint
from broker.service.changes import Changes
from broker.service.pair_keeper import PairKeeper
from broker.service.provider_gate import ProviderGate
from broker.service.resolutions import resolve_fault, told_to_the_provider_s_health
from broker.telemetry import metrics, spans

log = structlog.get_logger(__name__)


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


class Attempts:
    """Makes attempts."""

    def __init__(
        self,
        *,
        store: InstallStore,
        endpoint: TokenEndpoint,
        gate: ProviderGate,
        changes: Changes,
        apps: Apps,
        clock: Clock,
        randomness: Randomness,
        timing: RefreshTiming,
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._gate = gate
        self._changes = changes
        self._apps = apps
        self._clock = clock
        self._randomness = randomness
        self._timing = timing
        self._keeper = PairKeeper(store, clock, randomness, changes.publish)

    @property
    def pairs_not_stored(self) -> int:
        """How many pairs this process holds that the store has not taken yet."""
        return len(self._keeper)

    async def make(self, claim: Claim) -> Holding:
        """What stands there after the attempt.

        Raises:
            InstallNotFound, ReauthorizationRequired, ClientCredentialsRefused, ProviderUnavailable,
            StoreUnavailable.
        """
        attempt = _Attempt(claim, must_mint_next=claim.was_in_doubt)
        try:
            issued = await self._call(attempt)
        except ProviderFault as fault:
            return await self._resolve(attempt, fault)
        if issued is None:
            superseded = Resolution(Ending.SUPERSEDED, timedelta(0), in_doubt=attempt.must_mint_next)
            holding = await self._store.resolve(claim, superseded)
            _note_ending(claim, Ending.SUPERSEDED)
        else:
            holding = await self._keeper.keep(claim, issued)
            _note_ending(claim, ending_of(claim, issued), generation=holding.install.generation)
        self._changes.publish(holding)
        await self._gate.report(claim.key, None)
        return holding

    async def drain(self) -> None:
        """Wait until every pair is stored, or given up."""
        await self._keeper.drain()

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
                self._gate.overdraw(claim.key.plugin_id)
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
            claim.install.generation,
            claim.attempt,
        )

    async def _send(self, claim: Claim, app: EnvoyApp, grant: str) -> IssuedTokens:
        deadline = min(self._clock.now() + self._timing.call, claim.expires_at - self._timing.margin)
        if self._clock.now() >= deadline:
            raise NotSent("claim_ran_out")
        with _provider_call(claim, grant, self._clock):
            if grant == "refresh_token" and claim.refresh_token is not None:
                _note_presentation(claim)
                issued = await self._endpoint.refresh(app, claim.refresh_token, deadline)
            else:
                issued = await self._endpoint.mint(app, claim.key.install_id, deadline)
        if claim.company_id and issued.company_id and claim.company_id != issued.company_id:
            raise CompanyMismatch
        return issued

    async def _resolve(self, attempt: _Attempt, fault: ProviderFault) -> Holding:
        """End an attempt that failed. What it leaves, if that is what was asked; else raises what waiters are told."""
        claim = attempt.claim
        wait = full_jitter(claim.failures + 1, self._randomness.fraction())
        resolution, error = resolve_fault(fault, wait, claim.purpose, must_mint_next=attempt.must_mint_next)
        _note_ending(claim, fault.kind, failures=claim.failures + 1)
        if resolution.in_doubt:
            metrics.attempts_in_doubt.add(1, {metrics.PLUGIN_ID: claim.key.plugin_id})
        await self._gate.report(claim.key, told_to_the_provider_s_health(fault))
        try:
            with spans.span(spans.RESOLVE):
                holding = await self._store.resolve(claim, resolution)
        except RetryableError as store_error:
            # The claim runs out by itself and leaves the install in doubt, which is always safe.
            log.warning("refresh.resolve_failed", error=str(store_error))
            raise error or store_error from fault
        self._changes.publish(holding)
        # Who was stopped past the claim's end may find that another has been faster.
        if error is None or holding.install.generation > claim.generation:
            return holding
        raise error from fault


@contextmanager
def _provider_call(claim: Claim, grant: str, clock: Clock) -> Iterator[None]:
    """One call to Envoy, seen in its trace and in the metrics by what came of it."""
    began, outcome = clock.now(), "cancelled"
    attributes: dict[str, str | int] = {spans.GRANT: grant, spans.ATTEMPT: claim.attempt}
    with spans.span(spans.CALL, kind=trace.SpanKind.CLIENT, attributes=attributes) as span:
        try:
            yield
            outcome = "issued"
        except ProviderFault as fault:
            outcome = fault.kind
            raise
        finally:
            span.set_attribute(spans.OUTCOME, outcome)
            labels = {metrics.PLUGIN_ID: claim.key.plugin_id, "grant": grant, "outcome": outcome}
            metrics.provider_calls.record((clock.now() - began).total_seconds(), labels)


def _note_presentation(claim: Claim) -> None:
    metrics.presentations.record(claim.presentations)
    if claim.presentations > 1:
        log.error("refresh.presented_again", **claim.key._asdict(), presentations=claim.presentations)


def _note_ending(claim: Claim, ending: str, **facts: int) -> None:
    """Every attempt that ends is logged, counted, and seen in its trace."""
    metrics.attempts.add(
        1, {metrics.PLUGIN_ID: claim.key.plugin_id, "purpose": claim.purpose.value, "ending": ending}
    )
    trace.get_current_span().set_attribute(spans.ENDING, ending)
    log.log(
        logging.INFO if ending in set(Ending) else logging.WARNING,
        "refresh.attempt_ended",
        **claim.key._asdict(),
        purpose=claim.purpose.value,
        attempt=claim.attempt,
        ending=ending,
        **facts,
    )
