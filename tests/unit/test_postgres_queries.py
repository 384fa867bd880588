"""Every statement on the way of GetToken and of a refresh names one install, so that the table can be sharded by it."""

import re

import pytest

from broker.adapters.postgres.queries import QUERIES

# Not on that way: lists and sweeps, what watchers are compared by, hints, the schema's version, the census.
CENSUS = {"find_census", "lock_census_unless_locked", "count_installs", "write_census", "find_healths"}
OVER_MANY = {"page", "due", "standings", "notify", "schema_version", "seal_page", "seal_samples"} | CENSUS
# One record an app, on a table of its own.
HEALTH = {"find_health", "enrol_health", "write_health"}
BY_KEY = "WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s"
FORBIDDEN = re.compile(
    r"advisory|\bLISTEN\b|\bSET\s+(LOCAL|SESSION)\b|\bTEMP\b|\bPREPARE\b|CURRVAL|NEXTVAL", re.IGNORECASE
)


@pytest.mark.parametrize("name", sorted(set(QUERIES) - OVER_MANY - HEALTH))
def test_statement_names_one_install_by_its_key(name: str) -> None:
    """A router of shards can then send it to one of them."""
    statement = QUERIES[name]
    if statement.lstrip().startswith("--") or "INSERT INTO" in statement:
        statement = re.sub(r"--.*", "", statement)
    if "INSERT INTO" in statement:
        assert "(plugin_id, install_id, " in statement
        assert "(%(plugin_id)s, %(install_id)s, " in statement
    else:
        assert BY_KEY in statement
    assert statement.count("token_broker.") == 1


@pytest.mark.parametrize("name", sorted(HEALTH))
def test_health_is_one_record_of_one_app(name: str) -> None:
    """It is not on GetToken's way, and never joined with installs."""
    assert "%(plugin_id)s" in QUERIES[name]
    assert "token_broker.installs" not in QUERIES[name]


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_f35_statement_needs_no_session(name: str) -> None:
    """A pooler may give the next statement another connection."""
    assert not FORBIDDEN.search(re.sub(r"--.*", "", QUERIES[name]))


def test_exceptions_are_statements_that_there_are() -> None:
    """Or a renamed one would slip through."""
    assert set(QUERIES) >= OVER_MANY | HEALTH
