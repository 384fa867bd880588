"""seals: whether the keyset opens what is stored, as readiness asks it."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from broker.adapters import keys as keysets
from broker.adapters.clock import SteadyClock
from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.seal_check import SealCheck
from broker.doctor import keys
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, NotLooked, fail, ok
from broker.domain.errors import RetryableError
from broker.domain.secret import Secret

CONNECTIONS: Final = 1
_ANYTHING: Final = "SELECT EXISTS (SELECT FROM token_broker.installs)"
# Of the catalogue, which every role may read.
_HAS_TABLE: Final = (
    "SELECT EXISTS (SELECT FROM pg_tables WHERE (schemaname, tablename) = ('token_broker', 'installs'))"
)


def look(environment: Environment) -> Iterator[Finding]:
    """Open a sample."""
    cipher = keys.cipher(environment)
    session, settings = environment.session, environment.settings
    if not session.row(_HAS_TABLE)[0]:
        raise NotLooked("there is no schema; see schema")
    if not session.row(_ANYTHING)[0]:
        yield ok("nothing is stored yet")
        return
    problem = asyncio.run(_problem(settings.database_url, settings.database_seconds, cipher))
    if problem:
        yield fail(
            problem, "give this broker the keyset that the others have; a replica with this one is not ready"
        )
    else:
        yield ok("a sample of the stored tokens opens with this keyset")


async def _problem(database_url: Secret, patience: timedelta, cipher: keysets.TinkCipher) -> str | None:
    """Raises NotLooked if nobody knows."""
    connections = Connections(database_url, max_size=CONNECTIONS, patience=patience)
    await connections.open()
    try:
        return await SealCheck(connections, cipher, SteadyClock()).problem()
    except RetryableError as error:
        raise NotLooked(str(error)) from None
    finally:
        await connections.close()
