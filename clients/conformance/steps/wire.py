"""Steps of the wire: files that are replaced, and what calls came with."""

import asyncio

from clients.conformance.expectations import UnmetError
from clients.conformance.stage import CLIENT, LOOK_SECONDS, SOON_SECONDS, Stage
from clients.conformance.table import Step


async def write(stage: Stage, step: Step) -> None:
    """A file of the client's credentials is replaced: a certificate `of` a name, the gates' authority, or by `text`."""
    assert stage.files is not None
    if step["write"] == "certificate":
        stage.files.write_certificate(step["of"])
    elif step["write"] == "authority":
        stage.files.write_authority(is_own=True)
    else:
        stage.files.write(step["write"], step["text"])


async def metadata(stage: Stage, step: Step) -> None:
    """The newest call of an RPC carried this; a value that ends in … is a beginning."""
    seen = [call.metadata for call in stage.orders.seen if call.rpc == step["metadata"]]
    for key, value in step["has"].items():
        found = seen[-1].get(key, "")
        if not (found.startswith(value[:-1]) if value.endswith("…") else found == value):
            raise UnmetError(f"{key} was {found!r}")


async def peer(stage: Stage, step: Step) -> None:
    """The newest call came with a certificate of that name."""
    names = stage.orders.seen[-1].peer
    if step["peer"] not in names:
        raise UnmetError(f"it came with {names}")


async def until(stage: Stage, step: Step) -> None:
    """Ask for new installs again and again, until the newest call has it: `metadata` or `peer`."""
    check = peer if "peer" in step else metadata
    last = UnmetError("never asked")
    try:
        async with asyncio.timeout(SOON_SECONDS):
            while True:
                await stage.answer(stage.adapter.send("get", client=CLIENT, install=stage.world.new_id()))
                try:
                    return await check(stage, step)
                except UnmetError as unmet:
                    last = unmet
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise last from None
