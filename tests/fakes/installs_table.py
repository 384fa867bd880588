"""What replicas share: installs in memory, on a clock of their own, as a database would hold them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from broker.domain.claims import Claim
from broker.domain.freshness import due_after
from broker.domain.history import KEPT_ATTEMPTS, AttemptRecord
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding, Install, IssuedTokens, Validity
from broker.domain.secret import Secret
from broker.domain.states import SERVING_STATES, InstallState
from broker.ports import Cipher, Clock


@dataclass(slots=True)
class Row:
    """An install as it is stored. All times are on the table's clock; `install` changes by replacement.

    Attributes:
        claimed: the claim that was taken last.
    """

    install: Install
    token_type: str = ""
    access_token: bytes | None = None
    refresh_token: bytes | None = None
    claim_id: UUID | None = None
    stored_attempt: int = 0
    stored_claim_id: UUID | None = None
    doubted_attempt: int = 0
    due_at: datetime | None = None
    rejected_at: datetime | None = None
    webhook_digest: bytes | None = None
    claimed: Claim | None = None
    presentations: int = 0
    history: tuple[AttemptRecord, ...] = ()

    def note(self, record: AttemptRecord) -> None:
        """Put a record in front of the history."""
        self.history = (record, *self.history)[:KEPT_ATTEMPTS]


class InstallsTable:
    """The rows by key, and the clock and the cipher that go with them."""

    def __init__(self, clock: Clock, cipher: Cipher) -> None:
        self.clock = clock
        self.rows: dict[InstallKey, Row] = {}
        self._cipher = cipher

    def add(self, key: InstallKey, company_id: str, grace: timedelta) -> None:
        """A row without tokens, due after `grace`, unless there is one."""
        now = self.clock.now()
        if key in self.rows and self.rows[key].install.state not in SERVING_STATES:
            with self.written(key) as row:
                row.due_at = now + grace
                row.install = replace(row.install, exchange_owed=True)
        self.rows.setdefault(
            key,
            Row(
                Install(
                    key=key,
                    company_id=company_id,
                    state=InstallState.PROVISIONAL,
                    generation=0,
                    validity=None,
                    in_doubt=False,
                    attempt=0,
                    claim_ends_at=None,
                    exchange_owed=False,
                    rejected=False,
                    failure=None,
                    last_attempt=None,
                    created_at=now,
                    updated_at=now,
                ),
                due_at=now + grace,
            ),
        )

    @contextmanager
    def written(self, key: InstallKey) -> Iterator[Row]:
        """A row to change. If the body raises, nothing has been changed."""
        changed = replace(self.rows[key])
        yield changed
        changed.install = replace(changed.install, updated_at=self.clock.now())
        self.rows[key] = changed

    def put_tokens(
        self,
        row: Row,
        generation: int,
        access_token: Secret,
        refresh_token: Secret | None,
        validity: Validity,
    ) -> None:
        """Seal the tokens for `generation`, and make it the newest."""
        row.install = replace(row.install, generation=generation, validity=validity)
        row.access_token = self._cipher.seal(access_token, self._context("access", row))
        row.refresh_token = (
            self._cipher.seal(refresh_token, self._context("refresh", row)) if refresh_token else None
        )

    def next_validity(
        self,
        key: InstallKey,
        generation: int,
        issued: IssuedTokens,
        age: timedelta,
        kept_end: datetime | None,
    ) -> Validity:
        """The times of a pair whose request was sent `age` ago; `kept_end`: of a refresh token that stays."""
        issued_at = self.clock.now() - age
        refresh_end = kept_end
        if issued.refresh_token is not None:
            life = issued.refresh_token_expires_in
            refresh_end = issued_at + life if life is not None else None
        refresh_life = refresh_end - issued_at if refresh_end is not None else None
        due = issued_at + due_after(issued.expires_in, key, generation, refresh_life)
        return Validity(issued_at, issued_at + issued.expires_in, due, refresh_end)

    def refresh_token(self, row: Row) -> Secret | None:
        """The stored refresh token, opened."""
        return self._opened(row.refresh_token, "refresh", row)

    def holding(self, row: Row, shift: timedelta) -> Holding:
        """What a replica sees whose clock is ahead of the table's by `shift`."""
        access_token = self._opened(row.access_token, "access", row)
        return Holding(moved(row.install, shift), access_token, row.token_type)

    def _opened(self, sealed: bytes | None, column: str, row: Row) -> Secret | None:
        return self._cipher.open(sealed, self._context(column, row)) if sealed is not None else None

    def _context(self, column: str, row: Row) -> bytes:
        return repr((column, row.install.key, row.install.generation)).encode()


def moved(install: Install, shift: timedelta) -> Install:
    """The install with every time moved to a clock that is ahead by `shift`."""
    validity, failure, last_attempt = install.validity, install.failure, install.last_attempt
    if validity is not None:
        end = validity.refresh_token_expires_at
        validity = Validity(
            issued_at=validity.issued_at + shift,
            expires_at=validity.expires_at + shift,
            refresh_due_at=validity.refresh_due_at + shift,
            refresh_token_expires_at=end + shift if end is not None else None,
        )
    if failure is not None:
        failure = replace(failure, failed_at=failure.failed_at + shift, retry_at=failure.retry_at + shift)
    if last_attempt is not None:
        last_attempt = replace(last_attempt, ended_at=last_attempt.ended_at + shift)
    claim_ends_at = install.claim_ends_at
    return replace(
        install,
        claim_ends_at=claim_ends_at + shift if claim_ends_at is not None else None,
        validity=validity,
        failure=failure,
        last_attempt=last_attempt,
        created_at=install.created_at + shift,
        updated_at=install.updated_at + shift,
    )
