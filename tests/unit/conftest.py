"""A broker over fakes."""

import pytest

from tests.fakes.replica import Replica, World


@pytest.fixture
def world() -> World:
    """The time, the database and Envoy."""
    return World()


@pytest.fixture
def replica(world: World) -> Replica:
    """One process of the broker."""
    return Replica(world)
