"""Keep, the fourth step of the refresh protocol: a pair that was issued is stored, if at all possible.

It may be the only live one. A database that fails is tried again behind the scenes; meanwhile this process serves the
pair from memory. Nobody waits for more than the first try. If the store never takes it, or the process ends first, the
intent that stands there makes the next attempt mint: a call more, and nothing lost.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from broker.domain.backoff import full_jitter
from broker.domain.claims import Claim, unkept
from broker.domain.errors import BrokerError, InstallNotFound, RetryableError
from broker.domain.installs import Holding, IssuedTokens
from broker.ports import Clock, InstallStore, Randomness
from broker.service.flights import Flights
from broker.telemetry import spans

log = structlog.get_logger(__name__)

# By then other replicas have minted a pair of their own, and this one is no longer missed.
LONGEST_TRY: Final = timedelta(minutes=10)
LONGEST_PAUSE: Final = timedelta(seconds=10)


class PairKeeper:
    """Stores pairs. `on_kept` is told of one that was stored late."""

    def __init__(
        self, store: InstallStore, clock: Clock, randomness: Randomness, on_kept: Callable[[Holding], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._randomness = randomness
        self._on_kept = on_kept
        self._late: Flights[UUID, None] = Flights()

    def __len__(self) -> int:
        """How many pairs this process holds that the store does not."""
        return len(self._late)

    async def keep(self, claim: Claim, issued: IssuedTokens) -> Holding:
        """What stands in the store, or what will.

        Raises:
            InstallNotFound: there is a tombstone; the pair is dropped.
        """
        with spans.span(spans.KEEP):
            try:
                return await self._store.keep(claim, issued)
            except RetryableError as error:
                log.warning("refresh.keep_failed", **claim.key._asdict(), tries=1, error=str(error))
        self._late.start(claim.claim_id, lambda: self._keep_late(claim, issued))
        return unkept(claim, issued)

    async def drain(self) -> None:
        """Wait until every pair is stored, or given up."""
        await self._late.landed()

    async def _keep_late(self, claim: Claim, issued: IssuedTokens) -> None:
        give_up_at, tries = self._clock.now() + LONGEST_TRY, 1
        while self._clock.now() < give_up_at:
            pause = full_jitter(tries, self._randomness.fraction())
            await self._clock.sleep(min(pause, LONGEST_PAUSE))
            tries += 1
            try:
                holding = await self._store.keep(claim, issued)
            except RetryableError as error:
                log.warning("refresh.keep_failed", **claim.key._asdict(), tries=tries, error=str(error))
            except InstallNotFound:
                return
            except BrokerError:
                log.exception("refresh.keep_gave_up", **claim.key._asdict())
                return
            else:
                log.info("refresh.kept_late", **claim.key._asdict(), attempt=claim.attempt, tries=tries)
                self._on_kept(holding)
                return
        log.error("refresh.keep_gave_up", **claim.key._asdict(), attempt=claim.attempt, tries=tries)
