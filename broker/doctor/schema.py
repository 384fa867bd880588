"""schema: the database's, against this release's."""

from collections.abc import Iterator, Mapping
from typing import Final

from broker.adapters.postgres.migrate import Migration, load_migrations
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn

# Of the catalogue, which every role may read.
_HAS_TABLE: Final = (
    "SELECT EXISTS (SELECT FROM pg_tables WHERE (schemaname, tablename) = ('token_broker', 'migrations'))"
)
_APPLIED: Final = "SELECT version, digest FROM token_broker.migrations"
_MIGRATE: Final = "as the schema's owner: token-broker migrate. It is safe beside running brokers"


def look(environment: Environment) -> Iterator[Finding]:
    """Compare the migrations that were applied with those of this release."""
    session = environment.session
    if not session.row(_HAS_TABLE)[0]:
        yield fail("the database has no schema", _MIGRATE)
        return
    applied = {version: bytes(digest) for version, digest in session.rows(_APPLIED)}
    yield _verdict(applied, load_migrations())


def _verdict(applied: Mapping[int, bytes], ours: list[Migration]) -> Finding:
    edited = [each.name for each in ours if applied.get(each.version, each.digest) != each.digest]
    missing = [each.name for each in ours if each.version not in applied]
    foreign = sorted(applied.keys() - {each.version for each in ours})
    if edited:
        return fail(
            f"{', '.join(edited)} was applied in another wording than this release has",
            "find out which build has migrated this database, and serve with that one",
        )
    if missing:
        return fail(f"the schema is older than this release: it lacks {', '.join(missing)}", _MIGRATE)
    if foreign:
        return warn(
            f"the schema is newer than this release, by {len(foreign)}: this release is about to be replaced",
            "fine while a deployment rolls, or after a roll-back by one release; else bring this one up to date",
        )
    return ok(f"as this release needs it, with {ours[-1].name} as its newest migration")
