"""Runs one flood for a time, and prints a line when it begins, and at the end what it saw, as JSON."""

import argparse
import asyncio
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path

from tests.floods.http2 import Door
from tests.floods.kinds import BEGUN, FLOODS


async def _flood(name: str, door: Door, seconds: float, seen: Counter[str]) -> None:
    """Again on a new connection whenever the server has closed the last, until it is done or time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await _is_cut(name, door, seen):
                seen["cut"] += 1


async def _is_cut(name: str, door: Door, seen: Counter[str]) -> bool:
    try:
        await FLOODS[name](door, seen)
    except ConnectionError:
        return True
    return False


def main() -> None:
    """The process."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("name", choices=sorted(FLOODS))
    arguments.add_argument("address", help="HOST:PORT")
    arguments.add_argument("seconds", type=float)
    arguments.add_argument("--certificates", type=Path, help="the folder of the caller that floods")
    given = arguments.parse_args()
    host, port = given.address.rsplit(":", 1)
    seen: Counter[str] = Counter()
    sys.stdout.write(f"{BEGUN}\n")
    sys.stdout.flush()
    asyncio.run(_flood(given.name, Door(host, int(port), given.certificates), given.seconds, seen))
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
