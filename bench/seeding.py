"""Fills a database with installs as the broker would have stored them: tokens sealed, fresh for hours."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg

from bench.broker import PLUGIN_ID, Database
from bench.run import Run
from broker.adapters.keys import TinkCipher
from broker.adapters.postgres.rows import ACCESS_TOKEN, REFRESH_TOKEN, TABLE, seal_context
from broker.domain.freshness import due_after
from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret
from broker.domain.states import InstallState

FIRST_INSTALL_ID = 1_000_000
GENERATION = ATTEMPT = 1
TOKEN_CHARACTERS = 200
LIFETIME = timedelta(hours=24)
PROGRESS_ROWS = 200_000
COLUMN_TYPES = {
    "plugin_id": "text",
    "install_id": "text",
    "company_id": "text",
    "state": "text",
    "generation": "int8",
    "token_type": "text",
    "access_token": "bytea",
    "refresh_token": "bytea",
    "issued_at": "timestamptz",
    "expires_at": "timestamptz",
    "refresh_due_at": "timestamptz",
    "due_at": "timestamptz",
    "attempt": "int8",
    "stored_attempt": "int8",
}


def install_ids(count: int) -> list[str]:
    """The ids of the first `count` installs, all of one length."""
    return [str(FIRST_INSTALL_ID + number) for number in range(count)]


async def seed(base: Database, count: int, bench: Run) -> None:
    """Writes `count` installs in place of whatever is there, and shows how it gets on."""
    await asyncio.to_thread(_write, base, count, bench)


def _write(base: Database, count: int, bench: Run) -> None:
    began = time.monotonic()
    with psycopg.connect(base.url) as connection:
        # FREEZE, which needs a table emptied in the same transaction, leaves nothing for later readers to mark.
        connection.execute(f"TRUNCATE {TABLE}")
        [(now,)] = connection.execute("SELECT clock_timestamp()").fetchall()
        statement = f"COPY {TABLE} ({', '.join(COLUMN_TYPES)}) FROM STDIN (FORMAT binary, FREEZE)"
        with connection.cursor().copy(statement) as copy:
            copy.set_types(list(COLUMN_TYPES.values()))
            for written, row in enumerate(_rows(base, count, now), start=1):
                copy.write_row([row[column] for column in COLUMN_TYPES])
                if written % PROGRESS_ROWS == 0:
                    rate = written / (time.monotonic() - began)
                    bench.progress(f"{written:,} of {count:,} installs written, {rate:,.0f}/s")
    with psycopg.connect(base.url, autocommit=True) as connection:
        connection.execute(f"ANALYZE {TABLE}")
        connection.execute("CHECKPOINT")  # now, and not in the middle of a measurement


def _rows(base: Database, count: int, now: datetime) -> Iterator[dict[str, Any]]:
    cipher = TinkCipher(base.keyset)
    for install_id in install_ids(count):
        key = InstallKey(PLUGIN_ID, install_id)
        due_at = now + due_after(LIFETIME, key, GENERATION)
        yield {
            **key._asdict(),
            "company_id": install_id,
            "state": InstallState.ACTIVE.value,
            "generation": GENERATION,
            "token_type": "Bearer",
            ACCESS_TOKEN: _sealed(cipher, ACCESS_TOKEN, key),
            REFRESH_TOKEN: _sealed(cipher, REFRESH_TOKEN, key),
            "issued_at": now,
            "expires_at": now + LIFETIME,
            "refresh_due_at": due_at,
            "due_at": due_at,
            "attempt": ATTEMPT,
            "stored_attempt": ATTEMPT,
        }


def _sealed(cipher: TinkCipher, column: str, key: InstallKey) -> bytes:
    token = f"{column}-{key.install_id}-".ljust(TOKEN_CHARACTERS, "t")
    return cipher.seal(Secret(token), seal_context(column, key, GENERATION))
