"""The floor of a refresh: bare httpx posts that spend one refresh token after the other, and nothing else.

`python -m bench.post_worker --url URL --kind KIND --chains N --seconds S`; one line of JSON on stdout.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

import httpx

from bench.broker import CLIENT_ID, CLIENT_SECRET
from bench.seeding import FIRST_INSTALL_ID

CALL_SECONDS = 30.0
WARM_UP_SHARE = 0.2
CREDENTIALS = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


class Kind(StrEnum):
    """KEPT: one client for all, whose connections are kept. NEW: a client and a connection for each post."""

    KEPT = "httpx, connections kept"
    NEW = "httpx, a connection each"


async def _run(url: str, kind: Kind, chains: int, seconds: float) -> dict[str, float]:
    # The certificates would be read anew for each client.
    context = httpx.create_ssl_context(trust_env=False)
    kept = httpx.AsyncClient(trust_env=False, verify=context, timeout=CALL_SECONDS)

    @asynccontextmanager
    async def client() -> AsyncIterator[httpx.AsyncClient]:
        if kind is Kind.KEPT:
            yield kept
        else:
            async with httpx.AsyncClient(trust_env=False, verify=context, timeout=CALL_SECONDS) as own:
                yield own

    async def post(**fields: str) -> str:
        async with client() as posting:
            parts = {name: (None, value) for name, value in (CREDENTIALS | fields).items()}
            answer = (await posting.post(url, files=parts)).raise_for_status()
        refresh_token: str = answer.json()["refresh_token"]
        return refresh_token

    counted, counting = 0, False

    async def chain(number: int) -> None:
        nonlocal counted
        token = await post(grant_type="plugin_install", install_id=str(FIRST_INSTALL_ID + number))
        while True:
            token = await post(grant_type="refresh_token", refresh_token=token)
            counted += counting

    chained = [asyncio.create_task(chain(number)) for number in range(chains)]
    await asyncio.wait(chained, timeout=WARM_UP_SHARE * seconds, return_when=asyncio.FIRST_EXCEPTION)
    counting, began, cpu = True, time.perf_counter(), time.process_time()
    await asyncio.wait(chained, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    found = {
        "calls": counted,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    for task in chained:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*chained, return_exceptions=True)
    await kept.aclose()
    return found


def main() -> None:
    """Posts, and prints what it came to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--kind", type=Kind, required=True)
    parser.add_argument("--chains", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(_run(given.url, given.kind, given.chains, given.seconds))))


if __name__ == "__main__":
    main()
