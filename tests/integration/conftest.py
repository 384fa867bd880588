"""Fixtures of the integration tests: a simulated Envoy, and a broker that uses it.

The `shared_` ones serve all tests of a module, for speed: each test then takes an install of its own. A module
that uses them runs in one event loop: `pytestmark = pytest.mark.asyncio(loop_scope="module")`.
"""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
import pytest_asyncio

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.databases import new_database
from tests.integration.served_broker import ServedBroker, served_broker
from tests.integration.served_envoy import ServedEnvoy, served_envoy

_INSTALL_IDS: Final = itertools.count(1000001)


@pytest.fixture
async def simulated_envoy() -> AsyncIterator[ServedEnvoy]:
    """A simulated Envoy with one app."""
    async with served_envoy() as served:
        yield served


@pytest.fixture
async def broker(simulated_envoy: ServedEnvoy, database: str) -> AsyncIterator[ServedBroker]:
    """A broker that serves that app, on a fresh database."""
    async with served_broker(simulated_envoy, database) as served:
        yield served


@pytest.fixture(scope="module")
def shared_database(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The DSN of a migrated database for a module's tests."""
    with new_database(postgres, migrated_template) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_envoy() -> AsyncIterator[ServedEnvoy]:
    """A simulated Envoy with one app, for a module's tests."""
    async with served_envoy() as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_broker(shared_envoy: ServedEnvoy, shared_database: str) -> AsyncIterator[ServedBroker]:
    """A broker that serves that app, for a module's tests."""
    async with served_broker(shared_envoy, shared_database) as served:
        yield served


@pytest.fixture
def install_id() -> str:
    """An id that no other test has."""
    return str(next(_INSTALL_IDS))
