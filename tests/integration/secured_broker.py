"""A whole broker that asks who calls, with the sandbox's certificates, policy and record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from broker.config import PREFIX
from broker.domain.secret import Secret
from broker.sandbox.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from broker.sandbox.secured import AUDIT_LOG, POLICY_FILE, secure
from tests.integration.served_broker import ServedBroker, served_broker
from tests.integration.served_envoy import APP, ServedEnvoy
from tokenbroker.v1 import installs_pb2_grpc, token_broker_pb2, token_broker_pb2_grpc

if TYPE_CHECKING:
    from tokenbroker.v1.installs_pb2_grpc import InstallsAsyncStub

CALL_SECONDS: Final = 30


@dataclass(frozen=True)
class CallerAtTheDoor:
    """A caller with a connection of its own. Attributes: metadata: goes with each call."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def installs(self) -> "InstallsAsyncStub":
        """The service that operators call."""
        return installs_pb2_grpc.InstallsStub(self.channel)

    async def get_token(self, install_id: str) -> token_broker_pb2.GetTokenResponse:
        """GetToken."""
        stub = token_broker_pb2_grpc.TokenBrokerStub(self.channel)
        request = token_broker_pb2.GetTokenRequest(install_id=install_id)
        return await stub.GetToken(request, timeout=CALL_SECONDS, metadata=self.metadata)

    def bearing(self, token: Secret) -> "CallerAtTheDoor":
        """The same connection, with a bearer token."""
        return CallerAtTheDoor(self.channel, (("authorization", f"Bearer {token.reveal()}"),))


@dataclass(frozen=True)
class SecuredBroker:
    """The doors of a broker that asks who calls. Attributes: folder: as the sandbox fills it."""

    served: ServedBroker
    folder: Path

    @property
    def policy(self) -> Path:
        """The policy's file."""
        return self.folder / POLICY_FILE

    @property
    def audit_log(self) -> Path:
        """The record's file."""
        return self.folder / AUDIT_LOG

    @asynccontextmanager
    async def caller(self, name: str | None) -> AsyncIterator[CallerAtTheDoor]:
        """A caller by the name of its certificate's folder; None shows no certificate."""
        ca = (self.folder / (name or "stranger") / CA_FILE).read_bytes()
        shown: list[bytes | None] = [None, None]
        if name is not None:
            shown = [(self.folder / name / file).read_bytes() for file in (KEY_FILE, CERTIFICATE_FILE)]
        credentials = grpc.ssl_channel_credentials(ca, *shown)
        # A connection of its own, also where another shows the same certificate.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(self.served.grpc_address, credentials, options) as channel:
            yield CallerAtTheDoor(channel)


@asynccontextmanager
async def secured_broker(
    envoy: ServedEnvoy, database: str, folder: Path, *, ready: bool = True, **variables: str
) -> AsyncIterator[SecuredBroker]:
    """Runs one; returns when it serves, unless it is not to get `ready`. `variables` are settings without their prefix; "" leaves one out."""
    door = {name.removeprefix(PREFIX): value for name, value in secure(folder).items()}
    door["INSECURE_SERVE_ANYBODY"] = "false"
    wanted = {name: value for name, value in (door | variables).items() if value}
    async with served_broker(envoy, database, (APP,), ready=ready, **wanted) as served:
        yield SecuredBroker(served, folder)
