"""The gRPC server: services, health, reflection, limits."""

from datetime import timedelta
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from broker.api.callers import Reception
from broker.api.handlers import Admissions, handlers_of
from broker.api.installs import InstallsServicer
from broker.api.token_broker import TokenBrokerServicer
from broker.domain.webhooks import MAX_BODY_BYTES
from tokenbroker.v1 import installs_pb2, token_broker_pb2

TOKEN_BROKER: Final = token_broker_pb2.DESCRIPTOR.services_by_name["TokenBroker"]
INSTALLS: Final = installs_pb2.DESCRIPTOR.services_by_name["Installs"]
HEALTH_NAMES: Final = ("", TOKEN_BROKER.full_name, INSTALLS.full_name)

# What a flood costs is bounded by the numbers below; tests/acceptance/test_floods.py measures it.

# Open at once, whoever opened them; one more is closed before it is listened to. About 40 KiB each.
MAX_CONNECTIONS: Final = 2048
# A client that has connected must have done with TLS and have told its HTTP/2 settings by then.
HANDSHAKE: Final = timedelta(seconds=10)
# A connection that nobody calls on is closed, and makes room; its client makes another with its next call.
CONNECTION_IDLE: Final = timedelta(minutes=15)
# More than any client of ours has under way on one connection; the rest waits at the client. Also what one connection
# can put before the calls of others, at once, and each of its streams may hold half a message: no more than needed.
MAX_STREAMS: Final = 1024
# A bearer token and a trace's context, and room. For both of gRPC's limits, soft and hard: between the two it refuses
# at random.
MAX_METADATA_BYTES: Final = 32 * 1024
# By then every connection was made anew: with the certificates, and to the replicas, that there are by then.
CONNECTION_AGE: Final = timedelta(hours=1)
CONNECTION_GRACE: Final = timedelta(minutes=1)
# Pings more often than that are not keepalive, and after so many the connection is closed. On a connection without
# calls gRPC itself takes no more than one in two hours.
PING_INTERVAL: Final = timedelta(seconds=5)
MAX_PING_STRIKES: Final = 3
# Wide enough that what is too large by far reaches the check that names its field, and no wider: gRPC reads a message to
# its end, and keeps what it has of it, before anybody asks who sends it.
MAX_RECEIVE_BYTES: Final = 2 * MAX_BODY_BYTES
# Calls that wait until this process gets to them. gRPC's own limit, 1,000, cancels calls of a mere crowd, at random and
# before Admission can shed them in words. A queue all the same, so it has an end.
MAX_PENDING: Final = 20 * MAX_STREAMS


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", _milliseconds(HANDSHAKE)),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_connection_idle_ms", _milliseconds(CONNECTION_IDLE)),
    ("grpc.max_connection_age_ms", _milliseconds(CONNECTION_AGE)),
    ("grpc.max_connection_age_grace_ms", _milliseconds(CONNECTION_GRACE)),
    ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(PING_INTERVAL)),
    ("grpc.http2.max_ping_strikes", MAX_PING_STRIKES),
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
]


class GrpcServer:
    """A server for both services on one event loop."""

    def __init__(
        self,
        token_broker: TokenBrokerServicer,
        installs: InstallsServicer,
        admissions: Admissions,
        reception: Reception,
        *,
        credentials: grpc.ServerCredentials | None,
        with_reflection: bool,
        traced: bool,
        shares_port: bool = False,
    ) -> None:
        """`credentials`: of TLS; None serves in the clear. `shares_port`: with other workers, who have it held."""
        self._admissions = admissions
        self._credentials = credentials
        # A second server on the same port takes half of the calls, silently: only if it is meant to.
        self._server = grpc.aio.server(options=[*OPTIONS, ("grpc.so_reuseport", int(shares_port))])
        self._server.add_generic_rpc_handlers(
            (
                handlers_of(TOKEN_BROKER, token_broker, admissions, reception, traced=traced),
                handlers_of(INSTALLS, installs, admissions, reception, traced=traced),
            )
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = [TOKEN_BROKER.full_name, INSTALLS.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)

    async def start(self, address: str, *, serving: bool = False) -> int:
        """Listen, `serving` by its health; returns the port.

        Raises:
            OSError: the address can't be listened at.
        """
        await self.set_serving(serving=serving)
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
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
        self._admissions.close()
        await self._server.stop(grace_seconds)
