"""Who wants something of the brokers: callers, installers, operators; and what they may never see (P3)."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from broker.domain.errors import BrokerError, RetryableError
from broker.domain.secret import Secret
from broker.domain.webhooks import RouteWebhook, UninstalledWebhook
from tests.fakes.samples import ACCESS_LIFE, COMPANY
from tests.simulation.process import Process
from tests.simulation.world import World

PATIENCE: Final = 30.0
RESENDS: Final = 5
Told = tuple[str, str, bytes]


async def caller(world: World, processes: Sequence[Process], install_id: str) -> None:
    """One GetToken; sometimes its caller gives up; sometimes Envoy rejects what it got."""
    process = world.dice.choice(processes)
    patience = world.dice.choice((0.01, 0.3, PATIENCE))
    work = process.begin(process.caller.get_token("", install_id))
    done, _ = await asyncio.wait({work}, timeout=patience)
    if not done or work.cancelled():
        work.cancel()
        return
    error = work.exception()
    if error is not None:
        if not isinstance(error, BrokerError):
            world.breaks("errors", f"GetToken of {install_id}: {error!r}")
        return
    holding = work.result().holding
    judge(world, process, install_id, holding.access_token)
    if not world.issuer.takes(holding.access_token, install_id, world.now()):
        await _report(process, install_id, holding.install.generation)


def judge(world: World, process: Process, install_id: str, token: Secret | None) -> None:
    """P3: whose it is, and whether it has expired. A token that was revoked is for the callers to report."""
    pair = world.issuer.pairs.get(token.reveal()) if token is not None else None
    if pair is None:
        world.breaks("P3", f"{process.name} handed out what Envoy never issued for {install_id}")
    elif pair.install_id != install_id:
        world.breaks("P3", f"{process.name} handed out a token of {pair.install_id} for {install_id}")
    elif world.now() >= pair.expires_at:
        world.breaks("P3", f"{process.name} handed out an expired token of {install_id}")


async def _report(process: Process, install_id: str, generation: int) -> None:
    with suppress(BrokerError, asyncio.CancelledError):
        await process.begin(process.caller.report_rejected_token("", install_id, generation))


async def webhook(world: World, processes: Sequence[Process], told: Told) -> None:
    """Envoy sends a webhook, and again if it is not accepted."""
    kind, install_id, digest = told
    key = world.key(install_id)
    news: RouteWebhook | UninstalledWebhook = UninstalledWebhook(key, digest)
    if kind == "installed":
        token = Secret(f"the installer's own, {digest.hex()}")
        news = RouteWebhook(key, COMPANY, token, "Bearer", ACCESS_LIFE, digest)
    for _ in range(RESENDS):
        process = world.dice.choice(processes)
        world.note(process.name, f"is told that {install_id} is {kind}")
        try:
            await process.begin(_deliver(process, news))
        except RetryableError:
            await asyncio.sleep(world.dice.uniform(1, 20))
        except (BrokerError, asyncio.CancelledError) as error:
            world.note(process.name, f"answers {type(error).__name__}")
            if not isinstance(error, asyncio.CancelledError):
                return
        else:
            return


async def _deliver(process: Process, news: RouteWebhook | UninstalledWebhook) -> None:
    if isinstance(news, RouteWebhook):
        await process.store.enrol(news.key, news.company_id)
    await process.use_cases.refresher.exchange(news)
