"""What Postgres itself says about the installs' table: a check on what the brokers are said to have read."""

import asyncio
from typing import LiteralString

import psycopg

from bench.broker import Database

SETTLE_SECONDS = 10.0
POLL_SECONDS = 0.05

# A server process hands in its counts when it ends, at the latest.
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_INDEX_READS = "SELECT idx_scan FROM pg_stat_user_tables WHERE relid = 'token_broker.installs'::regclass"
_TABLE_BYTES = "SELECT pg_total_relation_size('token_broker.installs')"


async def index_reads(base: Database) -> int:
    """How often a row was looked up by an index, since the database was made, once every other client has gone.

    Raises:
        TimeoutError: a client stays.
    """
    async with asyncio.timeout(SETTLE_SECONDS):
        while await asyncio.to_thread(_number, base, _OTHERS):  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(POLL_SECONDS)
    return await asyncio.to_thread(_number, base, _INDEX_READS)


async def table_bytes(base: Database) -> int:
    """The installs' table with its indexes."""
    return await asyncio.to_thread(_number, base, _TABLE_BYTES)


def _number(base: Database, query: LiteralString) -> int:
    with psycopg.connect(base.url) as connection:
        [(number,)] = connection.execute(query).fetchall()
    return int(number)
