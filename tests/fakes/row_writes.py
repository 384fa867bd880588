"""What the verbs of InMemoryInstallStore write into a row, as the adapter's statements do."""

from dataclasses import replace
from datetime import datetime, timedelta

from broker.domain.claims import Claim, Ending, Resolution, ending_of, next_generation, taken_back
from broker.domain.history import UNKNOWN, lost, record_of
from broker.domain.installs import EndedAttempt, Failure, IssuedTokens
from broker.domain.states import SERVING_STATES, InstallEvent, after
from broker.ports import Clock
from tests.fakes.installs_table import InstallsTable, Row


class RowWrites:
    """Writes of a replica with this clock. Each changes a row that the table gave to be changed."""

    def __init__(self, table: InstallsTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def bury(self, row: Row) -> None:
        """Leave a tombstone."""
        attempt = row.install.attempt + 1
        row.install = replace(
            row.install,
            state=after(row.install.state, InstallEvent.UNINSTALLED),
            validity=None,
            in_doubt=False,
            attempt=attempt,
            claim_ends_at=None,
            exchange_owed=False,
            failure=None,
            fetched_in="",
        )
        row.token_type, row.access_token, row.refresh_token = "", None, None
        row.stored_attempt, row.due_at = attempt, None
        row.claim_id = row.stored_claim_id = row.claimed = None
        row.presentations = 0

    def store_pair(self, row: Row, claim: Claim, issued: IssuedTokens) -> None:
        """Store what a claim brought, the fence having been passed."""
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
        row.presentations = 0
        self.note_end(row, claim, ending_of(claim, issued), generation)
        claim_ends_at = None if newest else install.claim_ends_at
        row.claimed = None if newest else row.claimed
        row.due_at = validity.refresh_due_at if settled else self.not_before(claim_ends_at)
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
            fetched_in=claim.traceparent,
        )

    def end(self, row: Row, claim: Claim, resolution: Resolution) -> None:
        """End the newest attempt, which brought no pair."""
        now, install = self._table.clock.now(), row.install
        state = after(install.state, resolution.event) if resolution.event else install.state
        failure = install.failure
        if resolution.kind != Ending.SUPERSEDED:
            row.presentations -= taken_back(install.generation, claim, in_doubt=resolution.in_doubt)
            count = failure.count if failure is not None else 0
            failure = Failure(resolution.kind, count + 1, now, now + resolution.retry_in)
        in_doubt = resolution.in_doubt or row.doubted_attempt >= claim.attempt
        row.due_at = row.claimed = None
        owed = install.exchange_owed and resolution.event is None
        if state in SERVING_STATES or owed:
            row.due_at = now + resolution.retry_in
            if install.validity is not None and not (in_doubt or install.rejected):
                row.due_at = max(row.due_at, install.validity.refresh_due_at)
        row.install = replace(
            install,
            state=state,
            in_doubt=in_doubt,
            claim_ends_at=None,
            exchange_owed=owed,
            failure=failure,
        )

    def note_unheard(self, row: Row) -> None:
        """Of the claim that still stands, if one does, nobody was told the end."""
        if row.install.claim_ends_at is not None and row.claimed is not None:
            began_at, now = row.claimed.began_at - self.shift(), self._table.clock.now()
            row.note(record_of(row.claimed, UNKNOWN, began_at=began_at, ended_at=now))

    def note_end(self, row: Row, claim: Claim, ending: str, generation: int | None = None) -> None:
        """An attempt's holder says how it ended."""
        began_at, now = claim.began_at - self.shift(), self._table.clock.now()
        row.note(record_of(claim, ending, began_at=began_at, ended_at=now, generation=generation))
        row.install = replace(row.install, last_attempt=EndedAttempt(ending, now))

    def note_lost(self, row: Row, claim: Claim) -> None:
        """An attempt's pair came too late to be stored. Told twice, it is noted once."""
        record = lost(claim, began_at=claim.began_at - self.shift(), ended_at=self._table.clock.now())
        if all(replace(each, ended_at=record.ended_at) != record for each in row.history):
            row.note(record)

    def not_before(self, *moments: datetime | None) -> datetime:
        """The latest of these moments and now."""
        return max([self._table.clock.now(), *(moment for moment in moments if moment is not None)])

    def shift(self) -> timedelta:
        """How far the replica's clock is ahead of the table's."""
        return self._clock.now() - self._table.clock.now()
