"""role: whether the database's role can do what serving needs, and no more."""

from collections.abc import Iterator
from typing import Final

from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, NotLooked, fail, ok, warn

_GRANT: Final = "as the schema's owner: token-broker migrate --grant-to ROLE"
_ANOTHER: Final = "let a role of its own serve (docs/serve.md, step 1): token-broker migrate --grant-to ROLE"
_ROLE: Final = """
SELECT rolname, rolsuper, rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls,
       pg_has_role(rolname, nspowner, 'USAGE'),
       has_schema_privilege(rolname, pg_namespace.oid, 'USAGE'),
       has_schema_privilege(rolname, pg_namespace.oid, 'CREATE')
FROM pg_roles, pg_namespace WHERE rolname = current_user AND nspname = 'token_broker'
"""
_TABLES: Final = """
SELECT relname, has_table_privilege(oid, 'SELECT'),
       has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE'),
       has_table_privilege(oid, 'DELETE') OR has_table_privilege(oid, 'TRUNCATE')
FROM pg_class WHERE relnamespace = 'token_broker'::regnamespace AND relkind = 'r' ORDER BY relname
"""
# Where a broker writes rows of its own. Every table it reads.
WRITTEN: Final = frozenset({"installs", "provider_health"})


def look(environment: Environment) -> Iterator[Finding]:
    """What the catalogue says of it."""
    found = environment.session.rows(_ROLE)
    if not found:
        raise NotLooked("there is no schema; see schema")
    ((name, is_super, has_powers, is_owner, may_use, may_create),) = found
    tables = environment.session.rows(_TABLES) if may_use else []
    lacking = [table for table, reads, writes, _ in tables if not reads or (table in WRITTEN and not writes)]
    if not may_use:
        yield fail(f"{name} may not use the schema token_broker", _GRANT)
    elif lacking:
        yield fail(f"{name} lacks rights that serving needs, on {', '.join(lacking)}", _GRANT)
    excess = {
        "is a superuser": is_super,
        "owns the schema": is_owner and not is_super,
        "may create tables in the schema": may_create and not is_owner,
        "may create roles or databases, replicate, or pass row security by": has_powers and not is_super,
        "may delete rows": any(deletes for *_, deletes in tables) and not is_owner,
    }
    too_much = [what for what, holds in excess.items() if holds]
    if too_much:
        yield warn(
            f"{name} {', and '.join(too_much)}: whoever breaks into a broker could destroy what it keeps",
            _ANOTHER,
        )
    elif may_use and not lacking:
        yield ok(f"{name} reads and writes rows, and can do no more")
