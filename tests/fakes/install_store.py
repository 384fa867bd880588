"""InMemoryInstallStore: the InstallStore port over an InstallsTable."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
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
    Resolution,
    Verdict,
    confirmed_company,
    decide,
    presentable,
)
from broker.domain.errors import InstallNotFound, ReauthorizationRequired
from broker.domain.history import AttemptRecord
from broker.domain.identifiers import InstallKey
from broker.domain.installs import (
    DueInstall,
    Holding,
    Install,
    InstallFilter,
    IssuedTokens,
    Standing,
    Validity,
)
from broker.domain.states import SERVING_STATES, InstallEvent, InstallState
from broker.domain.webhooks import RouteWebhook
from broker.ports import Clock
from tests.fakes.installs_table import InstallsTable, Row, moved
from tests.fakes.row_writes import RowWrites
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
        self._writes = RowWrites(table, clock)

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

    async def standings(self, keys: Sequence[InstallKey]) -> Mapping[InstallKey, Standing]:
        """See InstallStore."""
        async with self._verb("standings"):
            rows = self._table.rows
            return {key: rows[key].install.standing for key in keys if key in rows}

    async def history(self, key: InstallKey) -> Sequence[AttemptRecord]:
        """See InstallStore."""
        async with self._verb("history"):
            row = self._table.rows.get(key)
            return row.history if row is not None else ()

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
                with self._table.written(claim.key) as row:
                    self._writes.store_pair(row, claim, issued)
            elif stored.stored_claim_id != claim.claim_id:
                if stored.install.state is InstallState.UNINSTALLED:
                    raise InstallNotFound
                with self._table.written(claim.key) as row:
                    self._writes.note_lost(row, claim)
                    row.doubted_attempt = row.install.attempt
                    row.install = replace(row.install, in_doubt=True)
                    if row.install.state in SERVING_STATES:
                        row.due_at = self._writes.not_before(row.install.claim_ends_at)
            return self._holding(self._row(claim.key))

    async def resolve(self, claim: Claim, resolution: Resolution) -> Holding:
        """See InstallStore."""
        async with self._verb("resolve"):
            if self._row(claim.key).claim_id == claim.claim_id:
                with self._table.written(claim.key) as row:
                    self._writes.note_end(row, claim, resolution.kind)
                    if resolution.event is InstallEvent.UNINSTALLED:
                        self._writes.bury(row)
                    else:
                        self._writes.end(row, claim, resolution)
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
                        row.due_at = self._writes.not_before(
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
            self._row(key)
            with self._table.written(key) as row:
                self._writes.note_unheard(row)
                self._writes.bury(row)
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

    def _shift(self) -> timedelta:
        return self._writes.shift()

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
                traceparent = row.claimed.traceparent if row.claimed is not None else ""
                return ClaimHeld(row.install.claim_ends_at - now, traceparent)
            case Verdict.BACK_OFF if failure is not None:
                return BackingOff(self._holding(row), failure, failure.retry_at - now)
        return self._take(row.install.key, terms, now)

    def _take(self, key: InstallKey, terms: ClaimTerms, now: datetime) -> Claim:
        before = self._row(key)
        install = before.install
        may_present = presentable(install, terms, now)
        refresh_token = self._table.refresh_token(before) if may_present else None
        claim = Claim(
            install=moved(install, self._shift()),
            attempt=install.attempt + 1,
            claim_id=uuid4(),
            owner=terms.owner,
            generation=max(install.generation, terms.seen_generation or 0),
            began_at=self._clock.now(),
            expires_at=self._clock.now() + terms.life,
            refresh_token=refresh_token,
            presentations=before.presentations + 1 if refresh_token is not None else 0,
            traceparent=terms.traceparent,
            purpose=terms.purpose,
            company_id=confirmed_company(install),
            webhook_digest=terms.webhook_digest,
        )
        with self._table.written(key) as row:
            self._writes.note_unheard(row)
            row.claim_id, row.claimed, row.due_at = claim.claim_id, claim, now + terms.life
            row.presentations = claim.presentations or row.presentations
            row.install = replace(install, attempt=claim.attempt, in_doubt=True, claim_ends_at=row.due_at)
        return claim


def _fits(install: Install, install_filter: InstallFilter) -> bool:
    return (
        install_filter.plugin_id in {None, install.key.plugin_id}
        and install_filter.company_id in {None, install.company_id}
        and install_filter.state in {None, install.state}
        and (install.failing or not install_filter.failing)
    )
