"""A kill storm: replicas die, stand still and restart, Envoy fails, connections are cut, and callers ask all the while.

    python -m tests.acceptance.kill_storm --minutes 10 --replicas 5 --installs 50 --seed 1

Then it is calm. The verdict is the simulated Envoy's: no refresh token was presented twice at once, after an unknown
outcome, or known as spent (P1); every install has a live pair, as the next refresh proves (P2); no caller got a token
that was dead when it asked, or another install's (P3); and no token stands in a log (P5). The seed chooses the faults;
how they meet the processes is the machine's doing.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from broker.offline import migrate
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.callers import Callers
from tests.acceptance.replicas import Replicas, replicas
from tests.acceptance.scene import presented_wrongly
from tests.acceptance.short_lived import (
    LIFETIME_SECONDS,
    SETTINGS,
    envoy_on_the_real_clock,
    install_all,
    short_lived,
    simulated_apps,
)
from tests.acceptance.storm_faults import Faults
from tests.acceptance.storm_verdict import Verdict, requests_by_outcome, wrong_in_log
from tests.eventually import eventually
from tests.integration.served_broker import rows_of

INSTALLS_OF_AN_APP: Final = 10
# A circuit that opened again and again in the storm may stay open for as long.
LONGEST_SETTLING_SECONDS: Final = 330
# Every pair is refreshed once in this time, and more.
QUIET_SECONDS: Final = 1.5 * LIFETIME_SECONDS


async def kill_storm(database: str, *, seconds: float, count: int, installs: int, seed: int) -> Verdict:
    """Runs a storm of `seconds` on an empty, migrated database, and judges it."""
    dice, begun_at = random.Random(seed), time.monotonic()  # noqa: S311  # faults that can be had again
    apps = simulated_apps(-(-installs // INSTALLS_OF_AN_APP))
    everyone = short_lived(installs, apps)
    async with (
        envoy_on_the_real_clock(apps) as envoy,
        replicas(database, envoy, count, apps, **SETTINGS) as cluster,
    ):
        await install_all(envoy, everyone, cluster[0])
        faults = Faults(cluster, envoy, database, everyone, dice)
        callers = Callers(envoy, everyone, lambda: dice.choice(list(cluster)).tokens, dice)
        async with callers.calling() as storm:
            await faults.rage(seconds)
            await faults.calm()
            calm_at = time.monotonic()
            unsettled = await _settled(database)
            settled_at = time.monotonic()
            # A pair that a late mint killed unseen is met by a caller within this time, and reported.
            await asyncio.sleep(LIFETIME_SECONDS)
        stormy = len(await envoy.ledger())
        async with callers.calling() as quiet:
            await asyncio.sleep(QUIET_SECONDS)
        wrong_in_logs = await _wrong_in_logs(cluster)
        entries = await envoy.ledger()
        refreshed = {entry["install_id"] for entry in entries[stormy:]}
        return Verdict(
            seed=seed,
            seconds=round(time.monotonic() - begun_at, 1),
            done=dict(sorted(faults.done.items())),
            requests=requests_by_outcome(entries[:stormy]),
            storm=storm,
            settled_after_seconds=round(settled_at - calm_at, 1),
            unsettled=unsettled,
            quiet=quiet,
            quiet_requests=requests_by_outcome(entries[stormy:]),
            idle=[each.install_id for each in everyone if each.install_id not in refreshed],
            presented_wrongly=presented_wrongly(entries),
            wrong_in_logs=wrong_in_logs,
        )


async def _settled(database: str) -> list[str]:
    """Wait until every install has been seen well; those that have not been for a long time."""
    ailing = {row["install_id"]: _state(row) for row in rows_of(database)}

    async def all_have_been_well() -> bool:
        for row in rows_of(database):
            if not _ails(row):
                ailing.pop(row["install_id"], None)
        return not ailing

    with contextlib.suppress(TimeoutError):
        await eventually(all_have_been_well, LONGEST_SETTLING_SECONDS)
    return list(ailing.values())


def _ails(row: dict[str, Any]) -> bool:
    rejected = row["rejected_generation"] == row["generation"]
    return row["state"] != "active" or row["in_doubt"] or row["failure_kind"] is not None or rejected


def _state(row: dict[str, Any]) -> str:
    return f"{row['install_id']}: {row['state']}, in doubt: {row['in_doubt']}, failure: {row['failure_kind']}"


async def _wrong_in_logs(cluster: Replicas) -> list[str]:
    """End every replica, and read what all there ever were have logged."""
    for replica in cluster:
        replica.terminate()
    ended = [await replica.ended() for replica in cluster.ever]
    exits = [f"exit code {each.code} after SIGTERM" for each in ended[-len(cluster) :] if each.code != 0]
    return exits + [line for each in ended for line in wrong_in_log(each.err)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        description="Ends with a verdict; its exit code is 1 if a promise is broken."
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--replicas", type=int, default=5)
    parser.add_argument("--installs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", action="store_true", help="the verdict as JSON")
    asked = parser.parse_args(arguments)
    with EmbeddedPostgres() as postgres:
        database = postgres.dsn("postgres")
        migrate(database)
        storm = kill_storm(
            database,
            seconds=60 * asked.minutes,
            count=asked.replicas,
            installs=asked.installs,
            seed=asked.seed,
        )
        verdict = asyncio.run(storm)
    sys.stdout.write(f"{verdict.as_json() if asked.json else verdict.table()}\n")
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main())
