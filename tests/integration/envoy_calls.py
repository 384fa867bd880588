"""One call of the Envoy client to a scripted server, and how it may end."""

import asyncio
import json
import traceback
from datetime import timedelta

import pytest

from broker.adapters.clock import SteadyClock
from broker.adapters.envoy.client import CONNECT_LIMIT, EnvoyClient
from broker.domain.apps import EnvoyApp
from broker.domain.errors import ProviderFault
from broker.domain.installs import IssuedTokens
from broker.domain.secret import Secret
from tests.integration.scripted_server import Connection

APP = EnvoyApp("4242", "client-1", Secret("make-believe-secret"))
PAIR = json.dumps({"access_token": "access-token-0001", "expires_in": 86400}).encode()
CLOCK = SteadyClock()
PATIENT = timedelta(seconds=30)
SHORT = timedelta(milliseconds=600)
GRACE = timedelta(seconds=5)

_REFRESH_TOKEN = Secret("refresh-token-0001")


def client(port: int, connect_limit: timedelta = CONNECT_LIMIT) -> EnvoyClient:
    """A client of a server without TLS."""
    return EnvoyClient(f"http://127.0.0.1:{port}/oauth2/token", clock=CLOCK, connect_limit=connect_limit)


async def refresh(endpoint: EnvoyClient, limit: timedelta = PATIENT) -> IssuedTokens:
    """One refresh."""
    return await endpoint.refresh(APP, _REFRESH_TOKEN, CLOCK.now() + limit)


async def fault(endpoint: EnvoyClient, limit: timedelta = PATIENT) -> tuple[type[ProviderFault], str]:
    """The error that one refresh ends in by its deadline, and its kind; it says and holds nothing secret."""
    with pytest.raises(ProviderFault) as caught:
        async with asyncio.timeout((limit + GRACE).total_seconds()):
            await refresh(endpoint, limit)
    told = "".join(traceback.format_exception(caught.value))
    assert not any(secret in told for secret in ("make-believe", "refresh-token", "access-token"))
    assert caught.value.__cause__ is caught.value.__context__ is None
    return type(caught.value), caught.value.kind


async def answer_pair(connection: Connection) -> None:
    """As Envoy does."""
    await connection.answer(200, PAIR)


async def be_silent(connection: Connection) -> None:
    """Takes nothing, and says nothing."""
    await connection.over.wait()
