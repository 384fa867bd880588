"""PostgresInstallStore: the InstallStore port, one short transaction a verb.

What a locked row allows is decided in domain/claims.py and domain/states.py; this file locks, asks, writes.
What was written is opened behind the transaction: a token that does not open must not undo it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from broker.adapters.postgres.attempt_history import (
    noting_end,
    noting_lost,
    noting_unheard,
    records_of,
)
from broker.adapters.postgres.claiming import answer_of
from broker.adapters.postgres.connections import Connection, Connections
from broker.adapters.postgres.queries import QUERIES
from broker.adapters.postgres.rows import (
    ACCESS_TOKEN,
    Row,
    due_at_after,
    holding_of,
    install_of,
    key_of,
    new_token_set,
    presentations_of,
    seal_context,
    standing_of,
)
from broker.domain.claims import (
    BackingOff,
    Claim,
    ClaimHeld,
    ClaimTerms,
    Ending,
    Resolution,
    ending_of,
    next_generation,
    taken_back,
)
from broker.domain.errors import InstallNotFound
from broker.domain.history import AttemptRecord
from broker.domain.identifiers import InstallKey
from broker.domain.installs import DueInstall, Holding, Install, InstallFilter, IssuedTokens, Standing
from broker.domain.states import InstallEvent, InstallState, after
from broker.domain.webhooks import RouteWebhook
from broker.ports import Cipher, Clock

FIRST_GENERATION: Final = 1
# How long after its enrolment an install is due, if nothing has become of it.
ENROL_GRACE: Final = timedelta(minutes=1)


class PostgresInstallStore:
    """Installs in Postgres. Docstrings of the methods stand on the port."""

    def __init__(self, connections: Connections, cipher: Cipher, clock: Clock) -> None:
        self._connections = connections
        self._cipher = cipher
        self._clock = clock

    async def find(self, key: InstallKey) -> Install | None:
        asked_at = self._clock.now()
        async with self._connections.connection() as connection:
            row = await _one(connection, "find", key)
        return install_of(row, asked_at) if row is not None else None

    async def find_holding(self, key: InstallKey) -> Holding | None:
        asked_at = self._clock.now()
        async with self._connections.connection() as connection:
            row = await _one(connection, "find", key)
        return holding_of(row, asked_at, self._cipher) if row is not None else None

    async def standings(self, keys: Sequence[InstallKey]) -> Mapping[InstallKey, Standing]:
        named = {
            "plugin_ids": [key.plugin_id for key in keys],
            "install_ids": [key.install_id for key in keys],
        }
        async with self._connections.connection() as connection:
            cursor = await connection.execute(QUERIES["standings"], named)
            return {key_of(row): standing_of(row) for row in await cursor.fetchall()}

    async def history(self, key: InstallKey) -> Sequence[AttemptRecord]:
        async with self._connections.connection() as connection:
            row = await _one(connection, "history", key)
        return records_of(row["recent_attempts"]) if row is not None else ()

    async def page(
        self, install_filter: InstallFilter, *, after: InstallKey | None, limit: int
    ) -> Sequence[Install]:
        asked_at = self._clock.now()
        behind = after or InstallKey("", "")
        parameters = {
            "after_plugin_id": behind.plugin_id,
            "after_install_id": behind.install_id,
            "plugin_id": install_filter.plugin_id,
            "company_id": install_filter.company_id,
            "state": install_filter.state,
            "failing": install_filter.failing,
            "limit": limit,
        }
        async with self._connections.connection() as connection:
            cursor = await connection.execute(QUERIES["page"], parameters)
            return [install_of(row, asked_at) for row in await cursor.fetchall()]

    async def due(self, limit: int, *, except_for: Sequence[str] = ()) -> Sequence[DueInstall]:
        async with self._connections.connection() as connection:
            cursor = await connection.execute(
                QUERIES["due"], {"limit": limit, "except_for": list(except_for)}
            )
            return [
                DueInstall(key_of(row), row["generation"], row["overdue"]) for row in await cursor.fetchall()
            ]

    async def enrol(self, key: InstallKey, company_id: str) -> None:
        parameters = {**key._asdict(), "company_id": company_id, "grace": ENROL_GRACE}
        async with self._connections.connection() as connection:
            await connection.execute(QUERIES["enrol"], parameters)

    async def claim(
        self, key: InstallKey, terms: ClaimTerms, *, skip_locked: bool = False
    ) -> Claim | Holding | ClaimHeld | BackingOff:
        asked_at = self._clock.now()
        async with self._connections.transaction() as connection:
            row = await _one(connection, "lock_unless_locked" if skip_locked else "lock", key)
            if row is None and skip_locked:
                return ClaimHeld(timedelta(0))
            if row is None:
                raise InstallNotFound
            answer = answer_of(row, terms, asked_at, self._cipher)
            if isinstance(answer, Claim):
                await self._take(connection, row, answer, terms.life)
        return answer

    async def keep(self, claim: Claim, issued: IssuedTokens) -> Holding:
        asked_at = self._clock.now()
        async with self._connections.transaction() as connection:
            row = await _locked(connection, claim.key)
            if row["stored_attempt"] < claim.attempt:
                row = await self._store_pair(connection, row, claim, issued)
            elif row["stored_claim_id"] != claim.claim_id:
                if row["state"] == InstallState.UNINSTALLED:
                    raise InstallNotFound
                noted = noting_lost(row, claim, self._clock)
                row = await _written(connection, "lose_fence", claim.key, **noted)
        return holding_of(row, asked_at, self._cipher)

    async def resolve(self, claim: Claim, resolution: Resolution) -> Holding:
        asked_at = self._clock.now()
        async with self._connections.transaction() as connection:
            row = await _locked(connection, claim.key)
            if row["claim_id"] == claim.claim_id:
                row = await self._end(connection, row, claim, resolution)
        return holding_of(row, asked_at, self._cipher)

    async def reject(self, key: InstallKey, generation: int, cool_down: timedelta) -> tuple[Holding, bool]:
        asked_at = self._clock.now()
        async with self._connections.transaction() as connection:
            row = await _locked(connection, key)
            rejected = (
                row["generation"] == generation != row["rejected_generation"]
                and row["access_token"] is not None
                and (row["rejected_at"] is None or row["now"] >= row["rejected_at"] + cool_down)
            )
            if rejected:
                row = await _written(connection, "reject", key)
        return holding_of(row, asked_at, self._cipher), rejected

    async def keep_provisional(self, webhook: RouteWebhook, issued_at: datetime) -> Holding:
        asked_at = self._clock.now()
        async with self._connections.transaction() as connection:
            row = await _locked(connection, webhook.key)
            if row["generation"] == 0 and row["state"] == InstallState.PROVISIONAL:
                context = seal_context(ACCESS_TOKEN, webhook.key, FIRST_GENERATION)
                on_their_clock = row["now"] - (self._clock.now() - issued_at)
                row = await _written(
                    connection,
                    "store_provisional",
                    webhook.key,
                    generation=FIRST_GENERATION,
                    token_type=webhook.token_type,
                    access_token=self._cipher.seal(webhook.access_token, context),
                    issued_at=on_their_clock,
                    expires_at=on_their_clock + webhook.expires_in,
                )
        return holding_of(row, asked_at, self._cipher)

    async def bury(self, key: InstallKey) -> Install:
        asked_at = self._clock.now()
        async with self._connections.transaction() as connection:
            row = await _locked(connection, key)
            row = await _written(connection, "bury", key, ending=None, **noting_unheard(row))
        return install_of(row, asked_at)

    async def schema_version(self) -> int:
        """The newest migration that was applied; raises StoreUnavailable also if there is no schema."""
        async with self._connections.connection() as connection:
            cursor = await connection.execute(QUERIES["schema_version"])
            row = await cursor.fetchone()
        return (row or {}).get("version") or 0

    async def _take(self, connection: Connection, row: Row, claim: Claim, life: timedelta) -> None:
        parameters = {
            **claim.key._asdict(),
            "attempt": claim.attempt,
            "claim_id": claim.claim_id,
            "owner": claim.owner,
            "life": life,
            "purpose": claim.purpose.value,
            "traceparent": claim.traceparent,
            "presentations": claim.presentations or presentations_of(row),
            **noting_unheard(row),
        }
        await connection.execute(QUERIES["take_claim"], parameters)

    async def _store_pair(self, connection: Connection, row: Row, claim: Claim, issued: IssuedTokens) -> Row:
        generation, ending = next_generation(row["generation"], claim), ending_of(claim, issued)
        newest = row["claim_id"] == claim.claim_id
        tokens = new_token_set(row, issued, generation, self._clock.now(), self._cipher)
        return await _written(
            connection,
            "store_pair",
            claim.key,
            state=after(InstallState(row["state"]), InstallEvent.PAIR_STORED),
            company_id=issued.company_id or row["company_id"],
            generation=generation,
            token_type=issued.token_type,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            issued_at=tokens.issued_at,
            expires_at=tokens.expires_at,
            refresh_due_at=tokens.refresh_due_at,
            refresh_token_expires_at=tokens.refresh_token_expires_at,
            attempt=claim.attempt,
            claim_id=claim.claim_id,
            newest=newest,
            settled=newest and row["doubted_attempt"] < claim.attempt,
            webhook_digest=claim.webhook_digest,
            traceparent=claim.traceparent,
            ending=ending,
            **noting_end(row, claim, self._clock, ending, generation=generation),
        )

    async def _end(self, connection: Connection, row: Row, claim: Claim, resolution: Resolution) -> Row:
        noted = noting_end(row, claim, self._clock, resolution.kind)
        if resolution.event is InstallEvent.UNINSTALLED:
            return await _written(connection, "bury", claim.key, ending=resolution.kind, **noted)
        state = InstallState(row["state"])
        if resolution.event is not None:
            state = after(state, resolution.event)
        presentations = presentations_of(row) - taken_back(
            row["generation"], claim, in_doubt=resolution.in_doubt
        )
        if row["doubted_attempt"] >= claim.attempt:
            resolution = replace(resolution, in_doubt=True)
        ended = {
            "kind": resolution.kind,
            "in_doubt": resolution.in_doubt,
            "due_at": due_at_after(row, state, resolution),
            **noted,
        }
        if resolution.kind == Ending.SUPERSEDED:
            return await _written(connection, "end_superseded", claim.key, **ended)
        return await _written(
            connection,
            "resolve",
            claim.key,
            state=state,
            answered=resolution.event is not None,
            retry_in=resolution.retry_in,
            presentations=presentations,
            **ended,
        )


async def _one(connection: Connection, query: str, key: InstallKey, **parameters: Any) -> Row | None:
    cursor = await connection.execute(QUERIES[query], {**key._asdict(), **parameters})
    return await cursor.fetchone()


async def _locked(connection: Connection, key: InstallKey) -> Row:
    return await _written(connection, "lock", key)


async def _written(connection: Connection, query: str, key: InstallKey, **parameters: Any) -> Row:
    row = await _one(connection, query, key, **parameters)
    if row is None:
        raise InstallNotFound
    return row
