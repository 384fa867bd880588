"""Makes installs due or expired in the database, as if time had passed, and waits for their next pairs."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import psycopg

from bench.broker import Database

POLL_SECONDS = 0.01

_TIME_PASSES: Final = """
UPDATE token_broker.installs
SET issued_at = issued_at - %(by)s, expires_at = expires_at - %(by)s, refresh_due_at = refresh_due_at - %(by)s,
    due_at = due_at - %(by)s
WHERE install_id = ANY (%(install_ids)s)
"""
_BEHIND: Final = """
SELECT count(*) FROM token_broker.installs
WHERE install_id = ANY (%(install_ids)s) AND generation < %(generation)s
"""
_TRANSACTION: Final = "SELECT pg_current_xact_id()::text::bigint"


async def let_time_pass(base: Database, install_ids: Sequence[str], by: timedelta) -> None:
    """Makes these installs so much older."""
    await asyncio.to_thread(_execute, base, _TIME_PASSES, {"by": by, "install_ids": list(install_ids)})


async def transactions(base: Database) -> int:
    """How many transactions have written so far, in the whole server; this asking is one of them."""
    return await asyncio.to_thread(_number, base, _TRANSACTION, {})


async def until_generation(
    base: Database, install_ids: Sequence[str], generation: int, limit_seconds: float
) -> float:
    """The moment, by time.perf_counter, at which each of these installs has that generation.

    Raises:
        TimeoutError: it takes longer than the limit.
    """
    wanted = {"install_ids": list(install_ids), "generation": generation}
    async with asyncio.timeout(limit_seconds):
        while await asyncio.to_thread(_number, base, _BEHIND, wanted):  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(POLL_SECONDS)
    return time.perf_counter()


def _execute(base: Database, query: str, given: dict[str, object]) -> None:
    with psycopg.connect(base.url) as connection:
        connection.execute(query, given)


def _number(base: Database, query: str, given: dict[str, object]) -> int:
    with psycopg.connect(base.url) as connection:
        [(number,)] = connection.execute(query, given).fetchall()
    return int(number)
