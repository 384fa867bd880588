"""pool: how many replicas the database has connections for."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from broker.config import variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn

# Each process listens for hints by a connection beside its pool.
HINTS: Final = 1
# The least that a rolling restart of a single replica needs: the new one comes before the old one goes.
ENOUGH_REPLICAS: Final = 2
_NO_LIMIT: Final = -1
_ROOM: Final = """
SELECT current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""


class Room(NamedTuple):
    """What the server has. -1 is no limit."""

    of_server: int
    of_role: int
    of_database: int

    @property
    def smallest(self) -> int:
        """What binds."""
        return min(limit for limit in self if limit != _NO_LIMIT)


def look(environment: Environment) -> Iterator[Finding]:
    """Divide. How many replicas there are nobody tells a broker."""
    settings = environment.settings
    pooled = settings.database_direct_url is not None
    each = settings.workers * (HINTS if pooled else settings.database_connections + HINTS)
    room = Room(*environment.session.row(_ROOM)).smallest
    yield _verdict(room, each, "for its hints alone, the rest goes by the pooler" if pooled else "at most")


def _verdict(room: int, each: int, how: str) -> Finding:
    fit = room // each
    text = f"a replica opens {each} connections {how}, the database has room for {room}; replicas that fit: {fit}"
    remedy = (
        f"raise the server's max_connections, lower {variable_of('database_connections')} (and with it "
        f"{variable_of('refreshes_in_flight')}), or put a pooler in between (docs/serve.md, step 1)"
    )
    if not fit:
        return fail(text, remedy)
    if fit < ENOUGH_REPLICAS:
        return warn(f"{text}; a rolling restart needs one more for a moment", remedy)
    return ok(text)
