"""The scene of the tests of metrics: a replica whose operations port is read as Prometheus reads it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import httpx
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.samples import Sample

from broker.adapters.audit import generate_audit_key
from tests.acceptance.replicas import NEVER, SETTINGS, Replica, replica
from tests.acceptance.scene import CALLERS, PAST_EXPIRY, Scene, scene_in
from tests.acceptance.traced import sends_to
from tests.eventually import eventually
from tests.integration.served_broker import ANY_PORT, CALL_SECONDS, envoy_url, settings_for
from tests.otlp.received import Received
from tests.otlp.receivers import receiving_by_grpc

OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
# Nobody but the test makes anything happen, and a call that Envoy does not answer is given up soon.
QUIET: Final = {
    "SWEEP_SECONDS": NEVER,
    "CALL_SECONDS": "3",
    "CLAIM_MARGIN_SECONDS": "0.5",
    "CLAIM_SECONDS": "3.5",
}
# So long Envoy asks for patience in an outage: enough to look at it.
PATIENCE_SECONDS: Final = 3


@dataclass(frozen=True)
class Page:
    """What /metrics said."""

    text: str
    content_type: str
    samples: Sequence[Sample]

    def all_of(self, name: str, **labels: str) -> list[Sample]:
        """The series of that name that have these labels."""
        return [
            sample
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def total(self, name: str, **labels: str) -> float:
        """Their sum."""
        return sum(sample.value for sample in self.all_of(name, **labels))


@dataclass(frozen=True)
class Metered:
    """Attributes: scene: without replicas. replica: the one that is read. secrets: what no page may tell."""

    scene: Scene
    replica: Replica
    operations: str
    received: Received
    secrets: list[str] = field(default_factory=list)
    install_ids: list[str] = field(default_factory=list)

    async def page(self, accept: str = OPENMETRICS) -> Page:
        """/metrics, wholly parsed by Prometheus' own library."""
        async with httpx.AsyncClient(trust_env=False, timeout=CALL_SECONDS) as http:
            answer = await http.get(f"{self.operations}/metrics", headers={"accept": accept})
        assert answer.status_code == httpx.codes.OK
        content_type = answer.headers["content-type"]
        parse: Any = openmetrics if content_type.startswith("application/openmetrics-text") else plain
        families = parse.text_string_to_metric_families(answer.text)
        return Page(answer.text, content_type, [each for family in families for each in family.samples])

    async def installed(self, *, expired: bool = False) -> str:
        """The id of a new install, which the replica has not heard of."""
        install_id = await self.scene.installed()
        if expired:
            await self.scene.time_passes(PAST_EXPIRY, install_id)
        self.install_ids.append(install_id)
        return install_id

    async def get_token(self, install_id: str) -> None:
        """GetToken of the replica."""
        self.secrets.append((await self.replica.get_token(install_id)).access_token)

    async def fails(self, install_id: str) -> grpc.StatusCode:
        """How GetToken fails."""
        try:
            await self.get_token(install_id)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def is_busy(self) -> None:
        """Do what a broker does on a good day, each at least once."""
        stored, expired = await self.installed(), await self.installed(expired=True)
        for _ in range(3):
            await self.get_token(stored)
        await self._is_asked_by_a_crowd(expired)
        await self._meets_anothers_claim()
        assert await self.fails("no-such-install") is grpc.StatusCode.NOT_FOUND
        await self._is_sent_webhooks()

    async def _is_asked_by_a_crowd(self, expired: str) -> None:
        """All of it has come before Envoy answers."""

        async def has_come() -> bool:
            return (await self.page()).total("tokenbroker_calls_in_flight") == CALLERS

        await self.scene.envoy.behave(expired, held="before_processing")
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self.get_token(expired))
            await eventually(has_come)
            await self.scene.envoy.release()

    async def _meets_anothers_claim(self) -> None:
        envoy, claimed = self.scene.envoy, await self.installed(expired=True)
        await envoy.behave(claimed, held="before_processing")

        async def is_claimed() -> bool:
            return self.scene.row(claimed)["claim_expires_at"] is not None

        async def is_waited_for() -> bool:
            return (await self.page()).total("tokenbroker_refreshes_under_way") > 0

        async with asyncio.TaskGroup() as callers:
            callers.create_task(self.scene.front_desk.refresh(claimed))
            await eventually(is_claimed)
            callers.create_task(self.get_token(claimed))
            await eventually(is_waited_for)
            await envoy.release()

    async def _is_sent_webhooks(self) -> None:
        install_id = f"{self.install_ids[-1]}9"
        self.install_ids.append(install_id)
        done = await self.scene.envoy.install(install_id, webhook_url=self.replica.webhook_url)
        assert done["webhook"]["status"] == httpx.codes.OK
        async with httpx.AsyncClient(trust_env=False, timeout=CALL_SECONDS) as http:
            answer = await http.post(self.replica.webhook_url, content=b"{}")
        assert answer.status_code == httpx.codes.UNAUTHORIZED

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[str]:
        """Envoy answers 500 and asks for patience, as long as the block runs; yields an install that needs a token."""
        install_id = await self.installed(expired=True)
        await self.scene.envoy.behave(status=500, retry_after_seconds=PATIENCE_SECONDS)
        try:
            yield install_id
        finally:
            await self.scene.envoy.behave(status=None, retry_after_seconds=None)


@asynccontextmanager
async def metered(database: str, folder: Path, **settings: str) -> AsyncIterator[Metered]:
    """Runs a replica that keeps a record, sends its spans to a receiver, and can be asked for its metrics.

    There is an install before it starts: the census is taken then, and not again for a minute.
    """
    audit_key = generate_audit_key().reveal()
    async with scene_in(database, 0) as scene, receiving_by_grpc() as received:
        first = await scene.installed()
        own = {
            "AUDIT_LOG": str(folder / "audit.jsonl"),
            "AUDIT_KEY": audit_key,
            "OPERATIONS_ADDRESS": ANY_PORT,
        }
        variables: dict[str, Any] = SETTINGS | QUIET | own | settings
        environ = settings_for(database, envoy_url(scene.envoy), **variables)
        sends = {**sends_to(received), "OTEL_METRICS_EXPORTER": "none"}
        async with replica({**environ, **sends}, name="metered") as started:
            secrets = [
                audit_key,
                environ["TOKEN_BROKER_KEYSET"],
                scene.front_desk.apps[0].client_secret.reveal(),
            ]
            operations = f"http://{(await started.logged('operations.open'))['address']}"
            yield Metered(scene, started, operations, received, secrets, [first])
