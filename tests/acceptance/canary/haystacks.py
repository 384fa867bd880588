"""Where secrets are looked for: all that the house has printed, answered, sent and written down."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.secured import AUDIT_LOG
from tests.acceptance.canary import secrets
from tests.acceptance.canary.answers import Answers
from tests.acceptance.canary.house import House
from tests.processes import Finished

Haystacks = Mapping[str, bytes]


def printed(ended: Mapping[str, Finished]) -> Haystacks:
    """What processes wrote to stdout and stderr."""
    return {f"stdout, {name}": each.out.encode() for name, each in ended.items()} | {
        f"stderr, {name}": each.err.encode() for name, each in ended.items()
    }


def answered(answers: Answers) -> Haystacks:
    """What outsiders were told."""
    return {
        "replies with tokens": _all(answers.with_tokens),
        "replies": _all(answers.replies),
        "refusals": _all(answers.refusals),
        "confirmations of webhooks": _all(answers.confirmations),
        "http": _all(answers.http),
    }


def sent_and_recorded(house: House) -> Haystacks:
    """What the broker sent to whom, and the record's file."""
    return {
        "told to envoy": _all(house.front.told),
        "told to the key server": _all(house.key_server.requests),
        "told to the collector": _all(house.collector.told),
        "spans and metrics": _all(house.collector.exports),
        "audit": (house.folder / AUDIT_LOG).read_bytes(),
    }


def seen_at_work(postgres: EmbeddedPostgres) -> Haystacks:
    """What the database shows of who works in it; while brokers do."""
    with psycopg.connect(postgres.dsn("postgres")) as planted, psycopg.connect(postgres.dsn()) as onlooker:
        planted.execute(sql.SQL("SELECT {}").format(sql.Literal(secrets.INSTALL_ID)))
        rows = onlooker.execute("SELECT * FROM pg_stat_activity").fetchall()
    return {"pg_stat_activity": repr(rows).encode()}


def written_by_database(postgres: EmbeddedPostgres) -> Haystacks:
    """Every file of the database, its log of writes among them, and its log of what it was told."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        shown = connection.execute("SHOW data_directory").fetchone()
    assert shown is not None
    data = Path(shown[0])
    files = sorted(path for path in data.rglob("*") if path.is_file())
    return {
        "database's files": _all(path.read_bytes() for path in files),
        "database's log": (data.parent / "postgres.log").read_bytes(),
    }


def _all(parts: Iterable[bytes]) -> bytes:
    return b"\n".join(parts)
