"""The scene of the tests of traces: replicas that send to an OTLP receiver, and an Envoy whose requests are kept."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from broker.adapters.audit import generate_audit_key
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.canary.echoing_envoy import EchoingEnvoy, echoing_envoy
from tests.acceptance.replicas import NEVER, SETTINGS, Replica, Replicas, replica
from tests.acceptance.scene import PAST_EXPIRY, Scene
from tests.databases import new_database
from tests.integration.served_broker import CALL_SECONDS, served_broker, settings_for
from tests.integration.served_envoy import APP, served_envoy
from tests.otlp.callers_trace import CallersTrace
from tests.otlp.received import Received
from tokenbroker.v1 import token_broker_pb2

SERVED: Final = "tokenbroker.v1.TokenBroker/GetToken"
WEBHOOK: Final = "POST /envoy/webhooks/{plugin_id}"
# What no span may tell.
QUERY: Final = "a-query=of-the-sender"
# Spans and metrics are sent soon after they are made, so that no test waits for a schedule.
SENDS_SOON: Final = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "500"}
# The front desk must not have them: a webhook that is known asks Envoy nothing.
_WEBHOOKS_IDS: Final = itertools.count(5_000_001)


@dataclass(frozen=True)
class TracedScene:
    """Attributes: scene: whose replicas are traced. front: what Envoy is told. environ: the replicas' own."""

    scene: Scene
    front: EchoingEnvoy
    environ: dict[str, str]

    async def expired(self) -> str:
        """The id of a new install whose token has expired, and is in no replica's memory."""
        install_id = await self.scene.installed()
        await self.scene.time_passes(PAST_EXPIRY, install_id)
        return install_id

    @asynccontextmanager
    async def one_more(self, received: Received, **variables: str) -> AsyncIterator[Replica]:
        """Runs a replica that sends to `received`, or as `variables` say."""
        environ = self.environ | sends_to(received) | variables
        async with replica(environ, name="one-more") as started:
            yield started

    async def post_webhook(self, of: Replica, trace: CallersTrace, **told: str) -> None:
        """Send Envoy's webhook for a new install, within a trace and with the headers `told`."""
        install_id = str(next(_WEBHOOKS_IDS))
        done = await self.scene.envoy.install(install_id)
        signed = done["webhook"]["sent"]
        headers = {"traceparent": trace.traceparent, **told, **signed["headers"]}
        async with httpx.AsyncClient(trust_env=False, timeout=CALL_SECONDS) as http:
            answer = await http.post(f"{of.webhook_url}?{QUERY}", content=signed["body"], headers=headers)
        assert answer.status_code == httpx.codes.OK


def sends_to(received: Received) -> dict[str, str]:
    """The variables of a process that sends there."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, **SENDS_SOON}


async def get_token(
    of: Replica, install_id: str, trace: CallersTrace, **metadata: str
) -> token_broker_pb2.GetTokenResponse:
    """GetToken, within a trace of the caller's."""
    request = token_broker_pb2.GetTokenRequest(install_id=install_id)
    told: Any = (("traceparent", trace.traceparent), *metadata.items())
    return await of.tokens.GetToken(request, timeout=CALL_SECONDS, metadata=told)


@asynccontextmanager
async def traced_scene(
    postgres: EmbeddedPostgres, template: str, received: Received, count: int
) -> AsyncIterator[TracedScene]:
    """Runs `count` replicas that sweep nothing, and send to `received`."""
    with new_database(postgres, template) as database:
        async with (
            served_envoy() as envoy,
            echoing_envoy(envoy.port) as front,
            served_broker(envoy, database, SWEEP_SECONDS=NEVER) as front_desk,
            AsyncExitStack() as stack,
        ):
            settings = SETTINGS | {
                "SWEEP_SECONDS": NEVER,
                "AUDIT_LOG": "-",
                "AUDIT_KEY": generate_audit_key().reveal(),
            }
            environ = settings_for(database, front.url, apps=(APP,), **settings)
            replicas = Replicas(stack, environ | sends_to(received))
            await replicas.start(count)
            yield TracedScene(Scene(database, envoy, front_desk, replicas), front, environ)
