"""InMemoryInstallStore: the InstallStore port over an InstallsTable."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from broker.domain.claims import (
    BackingOff,
    Claim,
    ClaimHeld,
    ClaimTerms,
    Ending,
    Verdict,
    confirmed_company,
    decide,
    ending_of,
    next_generation,
    presentable,
)
from broker.domain.errors import InstallNotFound, ReauthorizationRequired
from broker.domain.identifiers import InstallKey
from broker.domain.installs import EndedAttempt, Failure, Holding, Install, IssuedTokens, Validity
from broker.domain.states import SERVING_STATES, InstallEvent, InstallState, after
from broker.domain.webhooks import RouteWebhook
from broker.ports import Clock, DueInstall, InstallFilter, Resolution
from tests.fakes.installs_table import InstallsTable, Row, moved
from tests.fakes.steps import Steps
from tests.fakes.store_faults import Moment, StoreFaults

FIRST_GENERATION: Final = 1
ENROL_GRACE: Final = timedelta(minutes=1)


class InMemoryInstallStore:
    """One replica's client of a table that others may share.

    Attributes:
        faults: tell it what goes wrong next.
        calls: how often each verb was called.
    """

    def __init__(self, table: InstallsTable, clock: Clock, steps: Steps | None = None) -> None:
        self.faults = StoreFaults()
        self.calls: Counter[str] = Counter()
        self._table = table
        self._clock = clock
        self._steps = steps or Steps()

    async def find(self, key: InstallKey) -> Install | None:
        """See InstallStore."""
        async with self._verb("find"):
            row = self._table.rows.get(key)
            return moved(row.install, self._shift()) if row is not None else None

    async def find_holding(self, key: InstallKey) -> Holding | None:
        """See InstallStore."""
        async with self._verb("find_holding"):
            row = self._table.rows.get(key)
            return self._holding(row) if row is not None else None

    async def page(
        self, install_filter: InstallFilter, *, after: InstallKey | None, limit: int
    ) -> Sequence[Install]:
        """See InstallStore."""
        async with self._verb("page"):
            installs = [row.install for _, row in sorted(self._table.rows.items())]
            behind = [i for i in installs if _fits(i, install_filter) and (after is None or i.key > after)]
            return [moved(install, self._shift()) for install in behind[:limit]]

    async def due(self, limit: int, *, except_for: Sequence[str] = ()) -> Sequence[DueInstall]:
        """See InstallStore."""
        async with self._verb("due"):
            now = self._table.clock.now()
            wanting = [
                (row.due_at, row.install) for row in self._table.rows.values() if row.due_at is not None
            ]
            found = sorted(
                (
                    (at, install)
                    for at, install in wanting
                    if at <= now and install.key.plugin_id not in except_for
                ),
                key=lambda each: each[0],
            )
            return [DueInstall(i.key, i.generation, now - due_at) for due_at, i in found[:limit]]

    async def enrol(self, key: InstallKey, company_id: str) -> None:
        """See InstallStore."""
        async with self._verb("enrol"):
            self._table.add(key, company_id, ENROL_GRACE)

    async def claim(
        self, key: InstallKey, terms: ClaimTerms, *, skip_locked: bool = False
    ) -> Claim | Holding | ClaimHeld | BackingOff:
        """See InstallStore. No row is ever locked here when a verb begins."""
        del skip_locked
        async with self._verb("claim"):
            return self._claim(self._row(key), terms)

    async def keep(self, claim: Claim, issued: IssuedTokens) -> Holding:
        """See InstallStore."""
        async with self._verb("keep"):
            stored = self._row(claim.key)
            if stored.stored_attempt < claim.attempt:
                self._store_pair(claim, issued)
            elif stored.stored_claim_id != claim.claim_id:
                if stored.install.state is InstallState.UNINSTALLED:
                    raise InstallNotFound
                with self._table.written(claim.key) as row:
                    row.doubted_attempt = row.install.attempt
                    row.install = replace(row.install, in_doubt=True)
                    if row.install.state in SERVING_STATES:
                        row.due_at = self._not_before(row.install.claim_ends_at)
            return self._holding(self._row(claim.key))

    async def resolve(self, claim: Claim, resolution: Resolution) -> Holding:
        """See InstallStore."""
        async with self._verb("resolve"):
            if self._row(claim.key).claim_id == claim.claim_id:
                if resolution.event is InstallEvent.UNINSTALLED:
                    self._bury(claim.key)
                else:
                    with self._table.written(claim.key) as row:
                        doubted = row.doubted_attempt >= claim.attempt
                        self._end(row, replace(resolution, in_doubt=resolution.in_doubt or doubted))
            return self._holding(self._row(claim.key))

    async def reject(self, key: InstallKey, generation: int, cool_down: timedelta) -> tuple[Holding, bool]:
        """See InstallStore."""
        async with self._verb("reject"):
            row, now = self._row(key), self._table.clock.now()
            rejected = (
                row.install.generation == generation
                and not row.install.rejected
                and row.access_token is not None
                and (row.rejected_at is None or now >= row.rejected_at + cool_down)
            )
            if rejected:
                with self._table.written(key) as row:
                    failure = row.install.failure
                    row.rejected_at = now
                    if row.install.state in SERVING_STATES:
                        row.due_at = self._not_before(
                            row.install.claim_ends_at, failure.retry_at if failure is not None else None
                        )
                    row.install = replace(row.install, rejected=True)
            return self._holding(self._row(key)), rejected

    async def keep_provisional(self, webhook: RouteWebhook, issued_at: datetime) -> Holding:
        """See InstallStore."""
        async with self._verb("keep_provisional"):
            install = self._row(webhook.key).install
            if install.generation == 0 and install.state is InstallState.PROVISIONAL:
                issued_at -= self._shift()
                validity = Validity(issued_at, issued_at + webhook.expires_in, issued_at, None)
                with self._table.written(webhook.key) as row:
                    row.token_type = webhook.token_type
                    self._table.put_tokens(row, FIRST_GENERATION, webhook.access_token, None, validity)
            return self._holding(self._row(webhook.key))

    async def bury(self, key: InstallKey) -> Install:
        """See InstallStore."""
        async with self._verb("bury"):
            self._bury(key)
            return moved(self._row(key).install, self._shift())

    @asynccontextmanager
    async def _verb(self, verb: str) -> AsyncIterator[None]:
        """Around what a verb does in one go: a step before, a step after, and what a test planned."""
        self.calls[verb] += 1
        fault = self.faults.take(verb)
        await self._steps(f"{verb}: asked")
        if fault is not None and fault[0] is Moment.BEFORE:
            raise fault[1]
        yield
        await self._steps(f"{verb}: done")
        if fault is not None:
            raise fault[1]

    def _bury(self, key: InstallKey) -> None:
        attempt = self._row(key).install.attempt + 1
        with self._table.written(key) as row:
            row.install = replace(
                row.install,
                state=after(row.install.state, InstallEvent.UNINSTALLED),
                validity=None,
                in_doubt=False,
                attempt=attempt,
                claim_ends_at=None,
                exchange_owed=False,
                failure=None,
            )
            row.token_type, row.access_token, row.refresh_token = "", None, None
            row.stored_attempt, row.due_at = attempt, None
            row.claim_id = row.stored_claim_id = None

    def _not_before(self, *moments: datetime | None) -> datetime:
        return max([self._table.clock.now(), *(moment for moment in moments if moment is not None)])

    def _shift(self) -> timedelta:
        return self._clock.now() - self._table.clock.now()

    def _holding(self, row: Row) -> Holding:
        return self._table.holding(row, self._shift())

    def _row(self, key: InstallKey) -> Row:
        row = self._table.rows.get(key)
        if row is None:
            raise InstallNotFound
        return row

    def _claim(self, row: Row, terms: ClaimTerms) -> Claim | Holding | ClaimHeld | BackingOff:
        now, failure = self._table.clock.now(), row.install.failure
        verdict = decide(
            row.install,
            terms,
            webhook_digest=row.webhook_digest,
            claim_expires_at=row.install.claim_ends_at,
            now=now,
        )
        match verdict:
            case Verdict.GONE:
                raise InstallNotFound
            case Verdict.REAUTHORIZE:
                raise ReauthorizationRequired
            case Verdict.ADOPT:
                return self._holding(row)
            case Verdict.WAIT if row.install.claim_ends_at is not None:
                return ClaimHeld(row.install.claim_ends_at - now)
            case Verdict.BACK_OFF if failure is not None:
                return BackingOff(self._holding(row), failure, failure.retry_at - now)
        return self._take(row.install.key, terms, now)

    def _take(self, key: InstallKey, terms: ClaimTerms, now: datetime) -> Claim:
        before = self._row(key)
        install = before.install
        may_present = presentable(install, terms, now)
        claim = Claim(
            install=moved(install, self._shift()),
            attempt=install.attempt + 1,
            claim_id=uuid4(),
            generation=max(install.generation, terms.seen_generation or 0),
            expires_at=self._clock.now() + terms.life,
            refresh_token=self._table.refresh_token(before) if may_present else None,
            purpose=terms.purpose,
            company_id=confirmed_company(install),
            webhook_digest=terms.webhook_digest,
        )
        with self._table.written(key) as row:
            row.claim_id, row.due_at = claim.claim_id, now + terms.life
            row.install = replace(install, attempt=claim.attempt, in_doubt=True, claim_ends_at=row.due_at)
        return claim

    def _store_pair(self, claim: Claim, issued: IssuedTokens) -> None:
        with self._table.written(claim.key) as row:
            install, newest = row.install, row.claim_id == claim.claim_id
            settled = newest and row.doubted_attempt < claim.attempt
            if not newest:
                row.doubted_attempt = max(install.attempt, claim.attempt)
            refresh_token, kept_end = issued.refresh_token, None
            if refresh_token is None and not issued.minted and install.validity is not None:
                refresh_token = self._table.refresh_token(row)
                kept_end = install.validity.refresh_token_expires_at
            generation = next_generation(install.generation, claim)
            age = self._clock.now() - issued.requested_at
            validity = self._table.next_validity(claim.key, generation, issued, age, kept_end)
            self._table.put_tokens(row, generation, issued.access_token, refresh_token, validity)
            row.token_type = issued.token_type
            row.stored_attempt, row.stored_claim_id = claim.attempt, claim.claim_id
            row.webhook_digest = claim.webhook_digest or row.webhook_digest
            claim_ends_at = None if newest else install.claim_ends_at
            row.due_at = validity.refresh_due_at if settled else self._not_before(claim_ends_at)
            row.install = replace(
                row.install,
                state=after(install.state, InstallEvent.PAIR_STORED),
                company_id=issued.company_id or install.company_id,
                in_doubt=not settled,
                claim_ends_at=claim_ends_at,
                attempt=max(install.attempt, claim.attempt),
                exchange_owed=False,
                rejected=False,
                failure=None,
                last_attempt=EndedAttempt(ending_of(claim, issued), self._table.clock.now()),
            )

    def _end(self, row: Row, resolution: Resolution) -> None:
        now, install = self._table.clock.now(), row.install
        state = after(install.state, resolution.event) if resolution.event else install.state
        failure = install.failure
        if resolution.kind != Ending.SUPERSEDED:
            count = failure.count if failure is not None else 0
            failure = Failure(resolution.kind, count + 1, now, now + resolution.retry_in)
        row.due_at = None
        owed = install.exchange_owed and resolution.event is None
        if state in SERVING_STATES or owed:
            row.due_at = now + resolution.retry_in
            if install.validity is not None and not (resolution.in_doubt or install.rejected):
                row.due_at = max(row.due_at, install.validity.refresh_due_at)
        row.install = replace(
            install,
            state=state,
            in_doubt=resolution.in_doubt,
            claim_ends_at=None,
            exchange_owed=owed,
            failure=failure,
            last_attempt=EndedAttempt(resolution.kind, now),
        )


def _fits(install: Install, install_filter: InstallFilter) -> bool:
    return (
        install_filter.plugin_id in {None, install.key.plugin_id}
        and install_filter.company_id in {None, install.company_id}
        and install_filter.state in {None, install.state}
    )
