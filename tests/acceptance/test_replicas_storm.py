"""A short kill storm; see kill_storm.py for the long one."""

import json
from typing import Final

from tests.acceptance.kill_storm import kill_storm

SECONDS: Final = 12
REPLICAS: Final = 3
INSTALLS: Final = 12


async def test_kill_storm_breaks_no_promise(database: str) -> None:
    """F01, F02, F21, F31, F37, F38 and F49, in whatever order and company they come."""
    verdict = await kill_storm(database, seconds=SECONDS, count=REPLICAS, installs=INSTALLS, seed=1)
    assert verdict.broken == [], verdict.table()
    assert verdict.storm.tokens > 0
    assert verdict.done["SIGKILL"] > 0
    assert json.loads(verdict.as_json())["storm"]["tokens"] == verdict.storm.tokens
