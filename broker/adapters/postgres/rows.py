"""Rows of token_broker.installs as domain objects, and back.

Lifetimes are counted on the database's clock, which all replicas share. Each row brings the database's
`now`; a time is moved to this process's clock by the distance between that and the moment before the query
was sent, so that a token never seems to live longer than it does, whatever the replica's own clock says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from broker.domain.claims import Resolution
from broker.domain.errors import SealBroken
from broker.domain.freshness import due_after
from broker.domain.identifiers import InstallKey
from broker.domain.installs import EndedAttempt, Failure, Holding, Install, IssuedTokens, Standing, Validity
from broker.domain.secret import Secret
from broker.domain.states import SERVING_STATES, InstallState
from broker.ports import Cipher

TABLE: Final = "token_broker.installs"
ACCESS_TOKEN: Final = "access_token"
REFRESH_TOKEN: Final = "refresh_token"

Row = Mapping[str, Any]


def seal_context(column: str, key: InstallKey, generation: int) -> bytes:
    """The associated data of a sealed token: it opens in its own place only."""
    return "\0".join((TABLE, column, key.plugin_id, key.install_id, str(generation))).encode()


def key_of(row: Row) -> InstallKey:
    """The row's key."""
    return InstallKey(row["plugin_id"], row["install_id"])


def standing_of(row: Row) -> Standing:
    """How the install stands."""
    rejected = row["rejected_generation"] == row["generation"] > 0
    return Standing(row["generation"], InstallState(row["state"]), rejected)


def install_of(row: Row, asked_at: datetime) -> Install:
    """The install, its times moved to the broker's clock. `asked_at`: just before the query was sent."""
    shift, standing = asked_at - row["now"], standing_of(row)
    return Install(
        key=key_of(row),
        company_id=row["company_id"],
        state=standing.state,
        generation=standing.generation,
        validity=_validity_of(row, shift),
        in_doubt=row["in_doubt"],
        attempt=row["attempt"],
        claim_ends_at=row["claim_expires_at"] + shift if row["claim_expires_at"] is not None else None,
        exchange_owed=row["exchange_owed"],
        rejected=standing.rejected,
        failure=_failure_of(row, shift),
        last_attempt=_last_attempt_of(row, shift),
        # For people: as they stand there, so that two looks see the same.
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        fetched_in=(row["stored_traceparent"] or "") if _generation_is_noted(row) else "",
    )


def holding_of(row: Row, asked_at: datetime, cipher: Cipher) -> Holding:
    """The install with its access token opened.

    Raises:
        SealBroken: it does not open.
    """
    token = open_token(row, ACCESS_TOKEN, cipher)
    return Holding(install_of(row, asked_at), token, row["token_type"])


def open_token(row: Row, column: str, cipher: Cipher) -> Secret | None:
    """The token in `column`, or None.

    Raises:
        SealBroken: it does not open.
    """
    sealed = row[column]
    if sealed is None:
        return None
    return cipher.open(sealed, seal_context(column, key_of(row), row["generation"]))


def refuse_foreign(row: Row, cipher: Cipher) -> None:
    """Nothing may be put in the place of what another keyset has sealed: this one is the wrong one, or lacks a key.

    Raises:
        SealBroken: a key that is not in the keyset has sealed a token of the row.
    """
    if any(
        row[column] is not None and cipher.is_foreign(row[column]) for column in (ACCESS_TOKEN, REFRESH_TOKEN)
    ):
        raise SealBroken("a stored token was sealed with a key that is not in this broker's keyset")


def claim_traceparent_of(row: Row) -> str:
    """The traceparent of the attempt under way, or "": the previous release takes claims and says none."""
    return row["claim_traceparent"] or "" if row["noted_attempt"] == row["attempt"] else ""


def presentations_of(row: Row) -> int:
    """How often the newest generation's refresh token has been presented; not counted by the previous release."""
    return row["presentations"] if _generation_is_noted(row) else 0


@dataclass(frozen=True, slots=True)
class NewTokenSet:
    """What the store writes of an issued pair, sealed, on the database's clock."""

    access_token: bytes
    refresh_token: bytes | None
    issued_at: datetime
    expires_at: datetime
    refresh_due_at: datetime
    refresh_token_expires_at: datetime | None


def new_token_set(
    row: Row, issued: IssuedTokens, generation: int, read_at: datetime, cipher: Cipher
) -> NewTokenSet:
    """The next token set of a locked row. `read_at`: just after the row was received.

    After a refresh that brought no refresh token the old one stays, sealed anew for the new generation.
    After a mint it does not: it may be the very one that must not be presented again.
    """
    key = key_of(row)
    issued_at = row["now"] - (read_at - issued.requested_at)
    refresh_token, refresh_end = issued.refresh_token, None
    if refresh_token is None and not issued.minted:
        refresh_token = open_token(row, REFRESH_TOKEN, cipher)
        refresh_end = row["refresh_token_expires_at"]
    elif refresh_token is not None and issued.refresh_token_expires_in is not None:
        refresh_end = issued_at + issued.refresh_token_expires_in
    return NewTokenSet(
        access_token=cipher.seal(issued.access_token, seal_context(ACCESS_TOKEN, key, generation)),
        refresh_token=cipher.seal(refresh_token, seal_context(REFRESH_TOKEN, key, generation))
        if refresh_token is not None
        else None,
        issued_at=issued_at,
        expires_at=issued_at + issued.expires_in,
        refresh_due_at=issued_at
        + due_after(
            issued.expires_in, key, generation, refresh_end - issued_at if refresh_end is not None else None
        ),
        refresh_token_expires_at=refresh_end,
    )


def due_at_after(row: Row, state: InstallState, resolution: Resolution) -> datetime | None:
    """When a locked row wants its next attempt after one that brought no pair, on the database's clock."""
    if state not in SERVING_STATES and (resolution.event is not None or not row["exchange_owed"]):
        return None
    retry_at: datetime = row["now"] + resolution.retry_in
    wanted_at: datetime | None = row["refresh_due_at"]
    if resolution.in_doubt or wanted_at is None or row["rejected_generation"] == row["generation"]:
        return retry_at
    return max(retry_at, wanted_at)


def _generation_is_noted(row: Row) -> bool:
    return bool(row["noted_generation"] == row["generation"] > 0)


def _validity_of(row: Row, shift: timedelta) -> Validity | None:
    if row["expires_at"] is None:
        return None
    refresh_end = row["refresh_token_expires_at"]
    return Validity(
        issued_at=row["issued_at"] + shift,
        expires_at=row["expires_at"] + shift,
        refresh_due_at=row["refresh_due_at"] + shift,
        refresh_token_expires_at=refresh_end + shift if refresh_end is not None else None,
    )


def _failure_of(row: Row, shift: timedelta) -> Failure | None:
    if row["failure_kind"] is None:
        return None
    return Failure(
        kind=row["failure_kind"],
        count=row["failure_count"],
        failed_at=row["failed_at"] + shift,
        retry_at=row["retry_at"] + shift,
    )


def _last_attempt_of(row: Row, shift: timedelta) -> EndedAttempt | None:
    if row["last_ending"] is None:
        return None
    return EndedAttempt(row["last_ending"], row["last_ended_at"] + shift)
