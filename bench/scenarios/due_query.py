"""The scheduler's query among few and among many installs: its cost follows what is due, not what there is."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import psycopg
from psycopg.rows import dict_row

from bench.broker import Database, database, postgres
from bench.report import table
from bench.run import Run
from bench.seeding import seed
from broker.adapters.postgres.queries import QUERIES
from broker.service.scheduler import WINDOW

NAME = "due-query"
SUMMARY = "the scheduler's query among 1,000 and 1,000,000 installs, of which none, 100 or 10,000 are due"

FEW, MANY, QUICK_MANY = 1_000, 1_000_000, 20_000
DUE = (0, 100, 10_000)
TIMES_A_ROUND = 20
MILLISECONDS = 1000
GIVEN: Final = {"except_for": [], "limit": WINDOW}

_ALL_LATER: Final = (
    "UPDATE token_broker.installs SET due_at = refresh_due_at WHERE due_at <= clock_timestamp()"
)
# Spread over the whole table, as chance would have it.
_SOME_DUE: Final = """
UPDATE token_broker.installs SET due_at = clock_timestamp() - random() * interval '1 hour'
WHERE install_id IN (SELECT install_id FROM token_broker.installs ORDER BY md5(install_id) LIMIT %(count)s)
"""


@dataclass
class _Found:
    """Of one size and one number of due installs."""

    rows: int
    pages: int  # that Postgres touched, in memory or not
    milliseconds: list[float] = field(default_factory=list)

    def facts(self) -> dict[str, object]:
        """For the report."""
        return {"rows": self.rows, "pages": self.pages, "ms": round(median(self.milliseconds), 3)}


async def run(bench: Run) -> None:
    """Both tables on one server; the sizes take turns."""
    sizes = (FEW, QUICK_MANY if bench.quick else MANY)
    found: dict[tuple[int, int], _Found] = {}
    async with postgres(bench.cores.load) as server:
        bases = {}
        for size in sizes:
            bases[size] = await database(server, f"due_{size}")
            await seed(bases[size], size, bench)
        for due in DUE:
            for size, base in bases.items():
                if due <= size:
                    found[size, due] = await asyncio.to_thread(_prepare, base, due)
            for _ in range(bench.rounds):
                for size, base in bases.items():
                    if due <= size:
                        found[size, due].milliseconds += await asyncio.to_thread(_ask, base)
            bench.progress(f"{due:,} due")
    _report(bench, sizes, found)


def _prepare(base: Database, due: int) -> _Found:
    with psycopg.connect(base.url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute(_ALL_LATER)
        connection.execute(_SOME_DUE, {"count": due})
        connection.execute("VACUUM ANALYZE token_broker.installs")
        rows = len(connection.execute(QUERIES["due"], GIVEN).fetchall())
        explained = connection.execute(
            b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + QUERIES["due"].encode(), GIVEN
        ).fetchone()
    assert explained is not None  # noqa: S101 - EXPLAIN answers
    plan = explained["QUERY PLAN"][0]["Plan"]
    return _Found(rows, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _ask(base: Database) -> list[float]:
    taken = []
    with psycopg.connect(base.url, autocommit=True) as connection:
        connection.execute("SELECT 1")
        for _ in range(TIMES_A_ROUND):
            began = time.perf_counter()
            connection.execute(QUERIES["due"], GIVEN).fetchall()
            taken.append((time.perf_counter() - began) * MILLISECONDS)
    return taken


def _report(bench: Run, sizes: tuple[int, int], found: Mapping[tuple[int, int], _Found]) -> None:
    few, many = sizes
    growth = {
        due: median(found[many, due].milliseconds) / median(found[few, due].milliseconds)
        for due in DUE
        if (few, due) in found
    }
    facts: dict[str, object] = {
        "window": WINDOW,
        "found": {f"{size} installs, {due} due": its.facts() for (size, due), its in found.items()},
        "ratios_many_to_few": {str(due): round(its, 3) for due, its in growth.items()},
    }
    rows = [
        (f"{size:,} installs, {due:,} due", str(its.rows), str(its.pages), f"{median(its.milliseconds):.2f}")
        for (size, due), its in found.items()
    ]
    notes = [f"{many:,} to {few:,} installs, {due} due: {its:.2f}; flat is 1" for due, its in growth.items()]
    bench.report.add(NAME, facts, [*table(("", "rows read", "pages", "ms"), rows), *notes])
