"""The role that docs/serve.md lets serve: its grants suffice, and are not more than that."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.databases import direct_url
from tests.integration.refusals import refusal_of
from tests.integration.served_broker import CALL_SECONDS, INSTALL_ID, served_broker
from tests.integration.served_envoy import ServedEnvoy
from tokenbroker.v1 import installs_pb2

ROLE: Final = "token_broker_serving"
_CIRCUIT: Final = "SELECT kind FROM token_broker.provider_health"
SERVE: Final = Path(__file__).parents[2] / "docs" / "serve.md"


@pytest.fixture
def as_role(database: str) -> Iterator[str]:
    """The DSN of `database` for the role as the document makes it."""
    (grants,) = re.findall(
        r"^```sql\n(CREATE ROLE.*?)^```", SERVE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    role = sql.Identifier(ROLE)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(grants)
        try:
            yield make_conninfo(direct_url(database), user=ROLE)
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


async def test_role_of_the_document_serves(simulated_envoy: ServedEnvoy, database: str, as_role: str) -> None:
    """An operator grants what is written there; what is missing would show at the first refresh, or the first 429."""
    async with served_broker(simulated_envoy, as_role) as broker:
        await broker.installed()
        assert (await broker.refresh()).generation == 2
        await simulated_envoy.behave(INSTALL_ID, status=429, remaining=1)
        refusal = await refusal_of(broker.refresh())
        assert refusal.reason == "PROVIDER_UNAVAILABLE", refusal.message
        request = installs_pb2.DeleteInstallRequest(install_id=INSTALL_ID)
        await broker.installs.DeleteInstall(request, timeout=CALL_SECONDS)
        with psycopg.connect(database) as connection:
            assert connection.execute(_CIRCUIT).fetchone() == ("rate_limited",)


def test_role_of_the_document_can_destroy_no_row(as_role: str) -> None:
    """Deleted installs leave tombstones: nothing the broker does needs more, so whoever breaks into it has no more."""
    with psycopg.connect(as_role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM token_broker.installs")
