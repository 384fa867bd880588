"""What the doctor says of the database: real servers, real roles, real schemas."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
import trustme
from psycopg import sql
from psycopg.conninfo import make_conninfo

from broker import offline
from broker.adapters.keys import generate_keyset
from broker.doctor import database as database_check
from tests.databases import direct_url
from tests.doctor_lines import FAIL, OK, WARN, findings, only, settings, weights
from tests.integration.postgres_by_tls import postgres_by_tls
from tests.integration.sealed_installs import installed, rotation

ROLE: Final = "token_broker_examined"
AWAY: Final = "postgresql://nobody:canary@127.0.0.1:1/nothing"
NO_SUCH_HOST: Final = "postgresql://user:canary@no-such-host.invalid/db"


def here(dsn: str, **values: str) -> dict[str, str]:
    """Settings for that database, past the pooler if there is one."""
    return settings(DATABASE_URL=direct_url(dsn), **values)


def execute(dsn: str, statement: str, **names: str) -> None:
    """As the owner, and superuser."""
    identifiers = {key: sql.Identifier(name) for key, name in names.items()}
    with psycopg.connect(direct_url(dsn), autocommit=True) as connection:
        connection.execute(sql.SQL(statement.encode().decode()).format(**identifiers))


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role without any right of its own."""
    execute(database, "CREATE ROLE {role} LOGIN", role=ROLE)
    yield ROLE
    execute(database, "DROP OWNED BY {role}; DROP ROLE {role}", role=ROLE)


@pytest.fixture
def as_role(database: str, role: str) -> dict[str, str]:
    """Settings of a broker that serves as that role, by the grants of this release."""
    offline.grant_serving(direct_url(database), role)
    return settings(DATABASE_URL=make_conninfo(direct_url(database), user=role))


def test_database_that_is_there_is_described(database: str) -> None:
    """Which server, how fast, and how it is reached."""
    found = findings("database", here(database))
    assert {each.weight for each in found} == {OK}
    assert [each.found.split()[0] for each in found] == ["TOKEN_BROKER_DATABASE_URL:", "Postgres", "in"]


@pytest.mark.parametrize(
    ("url", "says"),
    [(AWAY, "nobody listens at its address"), (NO_SUCH_HOST, "its host's name is not found")],
)
def test_database_that_is_away_is_told_once_and_without_the_url(url: str, says: str) -> None:
    """Six failures for one cause would hide another's; and what libpq says may quote a piece of the password."""
    found = only("database", settings(DATABASE_URL=url))
    assert (found.weight, found.found) == (FAIL, f"TOKEN_BROKER_DATABASE_URL: {says}")
    for check in ("role", "schema", "seals", "pool", "clock"):
        blind = only(check, settings(DATABASE_URL=url))
        assert (blind.weight, "see database" in blind.found) == (WARN, True)


def test_unknown_database_or_role_is_told_by_no_name(database: str) -> None:
    """Of a URL with a misplaced @ the name would be a part of the password."""
    for wrong in ({"dbname": "canary"}, {"user": "canary"}):
        found = only("database", settings(DATABASE_URL=make_conninfo(direct_url(database), **wrong)))
        assert (found.weight, "knows no such role or database" in found.found) == (FAIL, True)
        assert "canary" not in found.found


def test_connection_in_the_clear_or_to_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS without a look at the certificate keeps nobody out who stands in between."""
    authority, ca = trustme.CA(), tmp_path / "ca.crt"
    ca.write_bytes(authority.cert_pem.bytes())
    with postgres_by_tls(authority) as server:
        url = server.dsn("postgres", tcp=True)
        modes: dict[str, dict[str, str]] = {
            "by TLS, and the server's certificate is verified": {
                "sslmode": "verify-full",
                "sslrootcert": str(ca),
            },
            "by TLS, but to whichever server answers": {"sslmode": "require"},
            "in the clear, and does not leave this machine": {"sslmode": "disable"},
        }
        told = {
            says: only("database", settings(DATABASE_URL=make_conninfo(url, **mode)), says)
            for says, mode in modes.items()
        }
        assert [finding.weight for finding in told.values()] == [OK, WARN, OK]
        monkeypatch.setattr(database_check, "is_loopback", lambda _host: False)
        assert only("database", settings(DATABASE_URL=url), "and leaves this machine").weight is WARN
        other = tmp_path / "other.crt"
        other.write_bytes(trustme.CA().cert_pem.bytes())
        refused = make_conninfo(url, sslmode="verify-full", sslrootcert=str(other))
        assert "certificate is not believed" in only("database", settings(DATABASE_URL=refused)).found
        wrong = only("database", settings(DATABASE_URL=make_conninfo(url, password="canary")))
        assert (wrong.weight, wrong.found) == (
            FAIL,
            "TOKEN_BROKER_DATABASE_URL: the server refuses the user's password",
        )


def test_server_out_of_the_known_versions_is_told(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too old can't work; too new may."""
    monkeypatch.setattr(database_check, "NEWEST_SERVER", 1)
    monkeypatch.setattr(database_check, "OLDEST_SERVER", 0)
    assert only("database", here(database), "Postgres").weight is WARN
    monkeypatch.setattr(database_check, "OLDEST_SERVER", 1000)
    assert only("database", here(database), "Postgres").weight is FAIL


def test_database_slower_than_the_patience_is_told(database: str) -> None:
    """Every piece of work would be given up."""
    found = only("database", here(database, DATABASE_SECONDS="0.000001"), "connected in")
    assert found.weight is FAIL
    assert "TOKEN_BROKER_DATABASE_SECONDS" in found.remedy


def test_database_that_takes_no_writes_or_forgets_them_is_told(database: str, role: str) -> None:
    """A standby by a mistaken address; and a server that was made fast at the cost of what it has promised."""
    url = make_conninfo(direct_url(database), user=role)
    execute(database, "ALTER ROLE {role} SET default_transaction_read_only = on", role=role)
    execute(database, "ALTER ROLE {role} SET synchronous_commit = off", role=role)
    assert only("database", settings(DATABASE_URL=url), "takes no writes").weight is FAIL
    assert only("database", settings(DATABASE_URL=url), "synchronous_commit").weight is WARN


def test_way_past_a_pooler_must_lead_to_the_same_database(database: str, empty_database: str) -> None:
    """Hints would be sent to nobody."""
    same = here(database, DATABASE_DIRECT_URL=direct_url(database))
    other = here(database, DATABASE_DIRECT_URL=direct_url(empty_database))
    away = here(database, DATABASE_DIRECT_URL=AWAY)
    assert only("database", same, "DIRECT_URL").weight is OK
    assert only("database", other, "DIRECT_URL").weight is FAIL
    assert only("database", away, "DIRECT_URL").weight is FAIL


def test_role_of_the_grants_can_serve_and_no_more(as_role: dict[str, str]) -> None:
    """What `migrate --grant-to` gives is what is asked for here: they may not drift apart."""
    assert only("role", as_role).weight is OK


def test_owner_is_told(database: str, role: str) -> None:
    """Whoever breaks into a broker could drop the tables."""
    assert "is a superuser" in only("role", here(database)).found
    execute(database, "GRANT {owner} TO {role}", owner="token_broker", role=role)
    url = make_conninfo(direct_url(database), user=role)
    found = only("role", settings(DATABASE_URL=url))
    assert (found.weight, "owns the schema" in found.found) == (WARN, True)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("GRANT DELETE ON token_broker.installs TO {role}", "may delete rows"),
        ("GRANT CREATE ON SCHEMA token_broker TO {role}", "may create tables"),
        ("ALTER ROLE {role} CREATEROLE", "may create roles"),
    ],
)
def test_right_that_serving_does_not_need_is_told(
    database: str, as_role: dict[str, str], statement: str, says: str
) -> None:
    """Somebody was in a hurry once."""
    execute(database, statement, role=ROLE)
    found = only("role", as_role)
    assert (found.weight, says in found.found) == (WARN, True)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("REVOKE UPDATE ON token_broker.installs FROM {role}", "on installs"),
        ("REVOKE SELECT ON token_broker.migrations FROM {role}", "on migrations"),
        ("REVOKE USAGE ON SCHEMA token_broker FROM {role}", "may not use the schema"),
    ],
)
def test_right_that_serving_lacks_is_told(
    database: str, as_role: dict[str, str], statement: str, says: str
) -> None:
    """A migration has added a table, and nobody has granted it."""
    execute(database, statement, role=ROLE)
    found = only("role", as_role)
    assert (found.weight, says in found.found) == (FAIL, True)
    assert weights("schema", as_role) <= {OK, WARN}
    assert weights("seals", as_role) <= {OK, WARN}


def test_schema_of_this_release_is_fine_and_another_is_told(database: str, empty_database: str) -> None:
    """In words: an operator should not have to compare numbers."""
    assert only("schema", here(database)).weight is OK
    none = only("schema", here(empty_database))
    assert (none.weight, none.found) == (FAIL, "the database has no schema")
    assert "token-broker migrate" in none.remedy
    assert "see schema" in only("role", here(empty_database)).found
    assert "see schema" in only("seals", here(empty_database)).found


@pytest.mark.parametrize(
    ("statement", "weight", "says"),
    [
        ("DELETE FROM token_broker.migrations WHERE version = 2", FAIL, "lacks 0002_protocol.sql"),
        ("UPDATE token_broker.migrations SET digest = ''", FAIL, "in another wording"),
        (
            "INSERT INTO token_broker.migrations (version, name, digest) VALUES (9999, 'later', '')",
            WARN,
            "newer than this release, by 1",
        ),
    ],
)
def test_schema_of_another_release_is_told(database: str, statement: str, weight: str, says: str) -> None:
    """Older does not serve; newer does, for the time of a deployment."""
    execute(database, statement)
    found = only("schema", here(database))
    assert (found.weight, says in found.found) == (weight, True)


async def test_keyset_that_opens_what_is_stored_is_fine_and_another_is_told(database: str) -> None:
    """A replica with a wrong one would not be ready, and the log would say why; here it is said before."""
    steps = rotation()
    assert only("seals", here(database)).found == "nothing is stored yet"
    await installed(database, steps.first, 2)
    assert only("seals", here(database, KEYSET=steps.promoted.reveal())).weight is OK
    other = generate_keyset().reveal()
    found = only("seals", here(database, KEYSET=other))
    assert found.weight is FAIL
    assert f"key {steps.old_id} is not in it" in found.found


def test_replicas_that_fit_are_counted(database: str) -> None:
    """200 connections of the test server, less what it reserves for superusers."""
    assert "a replica opens 33 connections at most" in only("pool", here(database)).found
    assert only("pool", here(database)).weight is OK
    assert only("pool", here(database, DATABASE_CONNECTIONS="150")).weight is WARN
    none = only("pool", here(database, DATABASE_CONNECTIONS="1000"))
    assert (none.weight, "replicas that fit: 0" in none.found) == (FAIL, True)
    pooled = here(database, DATABASE_CONNECTIONS="1000", DATABASE_DIRECT_URL=direct_url(database))
    assert only("pool", pooled).weight is OK


def test_limit_of_the_role_binds_too(database: str, role: str) -> None:
    """Houses give each role its share."""
    execute(database, "ALTER ROLE {role} CONNECTION LIMIT 40", role=role)
    found = only("pool", settings(DATABASE_URL=make_conninfo(direct_url(database), user=role)))
    assert (found.weight, "room for 40; replicas that fit: 1" in found.found) == (WARN, True)


def test_workers_of_a_replica_have_a_pool_each(database: str) -> None:
    """TOKEN_BROKER_WORKERS multiplies."""
    found = only("pool", here(database, WORKERS="4"))
    assert (found.weight, "opens 132 connections" in found.found) == (WARN, True)


@pytest.mark.parametrize(("by", "direction"), [(3600, "ahead of"), (-3600, "behind")])
def test_clock_that_is_wrong_is_told(
    database: str, monkeypatch: pytest.MonkeyPatch, by: int, direction: str
) -> None:
    """Good certificates and bearer tokens would be refused, and the record would say wrong times."""
    assert only("clock", here(database)).weight is OK
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + by)
    found = only("clock", here(database))
    assert found.weight is WARN
    assert f"{direction} the database's" in found.found
