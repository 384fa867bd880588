"""The gRPC server: services, health, reflection, limits."""

from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from broker.api.handlers import Admission, handlers_of
from broker.api.installs import InstallsServicer
from broker.api.token_broker import TokenBrokerServicer
from tokenbroker.v1 import installs_pb2, token_broker_pb2

TOKEN_BROKER: Final = token_broker_pb2.DESCRIPTOR.services_by_name["TokenBroker"]
INSTALLS: Final = installs_pb2.DESCRIPTOR.services_by_name["Installs"]
HEALTH_NAMES: Final = ("", TOKEN_BROKER.full_name, INSTALLS.full_name)

# Wide enough that an oversized webhook reaches the check that names its field, and no wider.
MAX_RECEIVE_BYTES: Final = 16 * 1024 * 1024
# More than one connection can send at once; what is shed is shed by Admission.
MAX_PENDING: Final = 1_000_000
OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # A second server on the same port would take half of the calls, silently.
    ("grpc.so_reuseport", 0),
    # gRPC's own limit, 1,000, cancels calls at random before a handler sees them. Admission sheds them in words.
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
]


class GrpcServer:
    """A server for both services on one event loop."""

    def __init__(
        self,
        token_broker: TokenBrokerServicer,
        installs: InstallsServicer,
        admission: Admission,
        *,
        with_reflection: bool,
        traced: bool,
    ) -> None:
        self._admission = admission
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers(
            (
                handlers_of(TOKEN_BROKER, token_broker, admission, traced=traced),
                handlers_of(INSTALLS, installs, admission, traced=traced),
            )
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = [TOKEN_BROKER.full_name, INSTALLS.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)

    async def start(self, address: str) -> int:
        """Listen, not yet serving by its health; returns the port.

        Raises:
            OSError: the address can't be listened at.
        """
        await self.set_serving(serving=False)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"can't listen at {address}") from error
        await self._server.start()
        return port

    async def set_serving(self, *, serving: bool) -> None:
        """Tell grpc.health.v1's clients whether to send calls here."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in HEALTH_NAMES:
            await self._health.set(name, status)

    async def leave(self) -> None:
        """Say by the health checks that no more calls should come. Those that come all the same are served."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, and give those under way `grace_seconds` to end.

        gRPC itself cancels what reaches it while it says goodbye to its clients: first let them leave.
        """
        self._admission.closed = True
        await self._server.stop(grace_seconds)
