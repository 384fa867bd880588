"""InMemoryInstallStore: the InstallStore port over an InstallsTable."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from broker.domain.claims import (
    BackingOff,
    Claim,
    ClaimHeld,
    ClaimTerms,
    Verdict,
    confirmed_company,
    decide,
    presentable,
)
from broker.domain.errors import InstallNotFound, ReauthorizationRequired
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Failure, Holding, Install, IssuedTokens, Validity
from broker.domain.states import InstallEvent, InstallState, after
from broker.domain.webhooks import RouteWebhook
from broker.ports import Clock, InstallFilter, Resolution
from tests.fakes.installs_table import InstallsTable, Row, moved
from tests.fakes.steps import Steps
from tests.fakes.store_faults import Moment, StoreFaults


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

    async def enrol(self, key: InstallKey, company_id: str) -> None:
        """See InstallStore."""
        async with self._verb("enrol"):
            self._table.add(key, company_id)

    async def claim(self, key: InstallKey, terms: ClaimTerms) -> Claim | Holding | ClaimHeld | BackingOff:
        """See InstallStore."""
        async with self._verb("claim"):
            return self._claim(self._row(key), terms)

    async def keep(self, claim: Claim, issued: IssuedTokens) -> Holding:
        """See InstallStore."""
        async with self._verb("keep"):
            stored = self._row(claim.key)
            if stored.stored_attempt < claim.attempt:
                self._store_pair(claim, issued)
            elif stored.stored_attempt > claim.attempt:
                if stored.install.state is InstallState.UNINSTALLED:
                    raise InstallNotFound
                with self._table.written(claim.key) as row:
                    row.install = replace(row.install, in_doubt=True)
            return self._holding(self._row(claim.key))

    async def resolve(self, claim: Claim, resolution: Resolution) -> Holding:
        """See InstallStore."""
        async with self._verb("resolve"):
            if self._row(claim.key).install.attempt == claim.attempt:
                with self._table.written(claim.key) as row:
                    row.claim_expires_at = None
                    row.install = self._resolved(row.install, resolution)
            return self._holding(self._row(claim.key))

    async def keep_provisional(self, webhook: RouteWebhook, issued_at: datetime) -> Holding:
        """See InstallStore."""
        async with self._verb("keep_provisional"):
            install = self._row(webhook.key).install
            if install.generation == 0 and install.state is InstallState.PROVISIONAL:
                issued_at -= self._shift()
                validity = Validity(issued_at, issued_at + webhook.expires_in, issued_at, None)
                with self._table.written(webhook.key) as row:
                    row.token_type = webhook.token_type
                    self._table.put_tokens(row, webhook.access_token, None, validity)
            return self._holding(self._row(webhook.key))

    async def bury(self, key: InstallKey) -> Install:
        """See InstallStore."""
        async with self._verb("bury"):
            attempt = self._row(key).install.attempt + 1
            with self._table.written(key) as row:
                row.install = replace(
                    row.install,
                    state=after(row.install.state, InstallEvent.UNINSTALLED),
                    validity=None,
                    in_doubt=False,
                    attempt=attempt,
                    failure=None,
                )
                row.token_type, row.access_token, row.refresh_token = "", None, None
                row.stored_attempt, row.claim_expires_at = attempt, None
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
            claim_expires_at=row.claim_expires_at,
            now=now,
        )
        match verdict:
            case Verdict.GONE:
                raise InstallNotFound
            case Verdict.REAUTHORIZE:
                raise ReauthorizationRequired
            case Verdict.ADOPT:
                return self._holding(row)
            case Verdict.WAIT if row.claim_expires_at is not None:
                return ClaimHeld(row.claim_expires_at - now)
            case Verdict.BACK_OFF if failure is not None:
                return BackingOff(self._holding(row), failure, failure.retry_at - now)
        return self._take(row.install.key, terms, now)

    def _take(self, key: InstallKey, terms: ClaimTerms, now: datetime) -> Claim:
        before = self._row(key)
        install = before.install
        may_present = presentable(install, terms, now)
        claim = Claim(
            key=key,
            attempt=install.attempt + 1,
            generation=install.generation,
            expires_at=self._clock.now() + terms.life,
            refresh_token=self._table.refresh_token(before) if may_present else None,
            was_in_doubt=install.in_doubt,
            purpose=terms.purpose,
            company_id=confirmed_company(install),
            failures=install.failure.count if install.failure is not None else 0,
            webhook_digest=terms.webhook_digest,
        )
        with self._table.written(key) as row:
            row.install = replace(install, attempt=claim.attempt, in_doubt=True)
            row.claim_expires_at = now + terms.life
        return claim

    def _store_pair(self, claim: Claim, issued: IssuedTokens) -> None:
        with self._table.written(claim.key) as row:
            install, is_newest = row.install, row.install.attempt == claim.attempt
            refresh_token, kept_end = issued.refresh_token, None
            if refresh_token is None and not issued.minted and install.validity is not None:
                refresh_token = self._table.refresh_token(row)
                kept_end = install.validity.refresh_token_expires_at
            validity = self._table.next_validity(
                row, issued, self._clock.now() - issued.requested_at, kept_end
            )
            self._table.put_tokens(row, issued.access_token, refresh_token, validity)
            row.token_type = issued.token_type
            row.stored_attempt = claim.attempt
            row.webhook_digest = claim.webhook_digest or row.webhook_digest
            row.claim_expires_at = None if is_newest else row.claim_expires_at
            row.install = replace(
                row.install,
                state=after(install.state, InstallEvent.PAIR_STORED),
                company_id=issued.company_id or install.company_id,
                in_doubt=install.in_doubt and not is_newest,
                failure=None,
            )

    def _resolved(self, install: Install, resolution: Resolution) -> Install:
        now = self._table.clock.now()
        count = install.failure.count if install.failure is not None else 0
        state = install.state
        return replace(
            install,
            state=after(state, InstallEvent.MINT_REFUSED) if resolution.mint_refused else state,
            in_doubt=resolution.in_doubt,
            failure=Failure(resolution.kind, count + 1, now, now + resolution.retry_in),
        )


def _fits(install: Install, install_filter: InstallFilter) -> bool:
    return (
        install_filter.plugin_id in {None, install.key.plugin_id}
        and install_filter.company_id in {None, install.company_id}
        and install_filter.state in {None, install.state}
    )
