"""Installs whose tokens live for seconds, by a simulated Envoy on the real clock: refreshes go on all the time."""

import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from broker.domain.secret import Secret
from broker.sandbox.simulated_envoy import SimulatedApp, SimulatedEnvoy, server_config
from tests.acceptance.replicas import Replica
from tests.integration.served_envoy import ManualClock, ServedEnvoy, door_of_envoy, serving

LIFETIME_SECONDS: Final = 4
# Long enough that at any moment some refreshes are under way, for a signal to meet.
LATENCY_SECONDS: Final = 0.3
# A claim and its calls fit several times into a token's life.
SETTINGS: Final = {
    "CALL_SECONDS": "1",
    "CLAIM_MARGIN_SECONDS": "0.4",
    "CLAIM_SECONDS": "1.6",
    "SWEEP_SECONDS": "0.2",
    "CACHE_STALENESS_SECONDS": "1",
    "ENVOY_CALLS_PER_SECOND": "200",
    "REJECTION_COOL_DOWN_SECONDS": "0.2",
}
_FIRST_ID: Final = 3_000_000


class RunningClock(ManualClock):
    """The real time."""

    def __call__(self) -> float:
        """As `SimulatedEnvoy` asks for it."""
        return time.time()


@dataclass(frozen=True)
class ShortLived:
    """An install. `standing`: how Envoy behaves for it when it is well, and not as for the others."""

    plugin_id: str
    install_id: str
    standing: dict[str, Any] = field(default_factory=dict)

    @property
    def mints_invalidate(self) -> bool:
        """Whether a mint kills what was issued before: then a caller may meet a dead token, and reports it."""
        return bool(self.standing.get("mint_invalidates_earlier"))


def simulated_apps(count: int) -> list[SimulatedApp]:
    """Several apps: the health of one says nothing of another's."""
    return [
        SimulatedApp(f"42{number:02}", f"client-{number}", Secret(f"make-believe-secret-{number}"))
        for number in range(count)
    ]


def short_lived(count: int, apps: Sequence[SimulatedApp]) -> list[ShortLived]:
    """Installs of these apps in turn, in every rotation mode; of one in five a mint kills what came before."""
    rotations = itertools.cycle(("strict", "family_revoked", "grace", "none"))
    return [
        ShortLived(
            apps[number % len(apps)].plugin_id,
            str(_FIRST_ID + number),
            {
                "rotation": rotation,
                "mint_invalidates_earlier": number % 5 == 4,
            },
        )
        for number, rotation in zip(range(count), rotations, strict=False)
    ]


@asynccontextmanager
async def envoy_on_the_real_clock(apps: Sequence[SimulatedApp]) -> AsyncIterator[ServedEnvoy]:
    """Runs a simulated Envoy."""
    simulated = SimulatedEnvoy(apps)
    async with serving(server_config(simulated.asgi)) as port, door_of_envoy(port) as http:
        yield ServedEnvoy(http, RunningClock(), port)


async def install_all(envoy: ServedEnvoy, installs: Sequence[ShortLived], replica: Replica) -> None:
    """Envoy installs each, and posts its webhook to `replica`."""
    await envoy.behave(access_token_lifetime_seconds=LIFETIME_SECONDS, latency_seconds=LATENCY_SECONDS)
    for each in installs:
        await envoy.behave(each.install_id, **each.standing)
        done = await envoy.install(
            each.install_id, plugin_id=each.plugin_id, webhook_url=f"{replica.webhook_url}/{each.plugin_id}"
        )
        assert done["webhook"]["status"] == httpx.codes.OK, json.dumps(done["webhook"]["body"])
