"""A broker that answers as a test says, and both clients."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest

from clients.python.tests.askers import KINDS, Asker, Clock, opened
from clients.python.tests.fake_broker import FakeBroker, serving
from tokenbroker.client import Credentials

Open = Callable[..., AbstractAsyncContextManager[Asker]]


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """One that listens."""
    with serving(FakeBroker()) as served:
        yield served


@pytest.fixture
def clock() -> Clock:
    """The client's."""
    return Clock()


@pytest.fixture(params=sorted(KINDS))
def open_client(request: pytest.FixtureRequest, broker: FakeBroker, clock: Clock) -> Open:
    """Makes a client of each kind with the options that it is given."""

    def make(target: str = broker.target, **options: Any) -> AbstractAsyncContextManager[Asker]:
        chosen: dict[str, Any] = {"credentials": Credentials.insecure(), "clock": clock} | options
        return opened(request.param, target, **chosen)

    return make


@pytest.fixture
async def asker(open_client: Open) -> AsyncIterator[Asker]:
    """A client with the options that it has by itself."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_client())
