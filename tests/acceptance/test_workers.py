"""`token-broker serve --workers N`: one pod, several processes, and what befalls them."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.acceptance.worker_processes import (
    AbsentDatabase,
    Seen,
    asked_all_the_time,
    channels,
    serving,
    starting,
)
from tests.eventually import eventually
from tests.integration.audit_trails import SECRET
from tests.integration.served_broker import INSTALL_ID, KEYSET
from tests.integration.served_envoy import ServedEnvoy
from tests.processes import token_broker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux deals out a port's connections")

KILLS: Final = 3
PROBES: Final = 40  # of each kind in a row: each meets either worker


async def test_connections_go_to_all_workers_and_lines_say_whose_they_are(
    envoy: ServedEnvoy, database: str
) -> None:
    """What several processes are for; and without its worker a line can't be followed to the next."""
    async with serving(envoy, database) as workers:
        seen = [
            asyncio.create_task(workers.event(f'webhook.refused", "worker": {index},')) for index in (0, 1)
        ]

        async def both_have_refused() -> bool:
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.post(workers.webhook_url, content=b"{", headers={"X-Envoy-Signature": "none"})
            return all(each.done() for each in seen)

        await eventually(both_have_refused)


async def test_killed_worker_fails_no_call_and_no_probe_is_told_not_ready(
    envoy: ServedEnvoy, database: str
) -> None:
    """Its connections break, which gRPC's own retries hide. One probe of each kind may be under way at a kill."""
    async with serving(envoy, database) as workers:
        await envoy.install(INSTALL_ID, webhook_url=workers.webhook_url)
        async with asked_all_the_time(workers, INSTALL_ID) as seen:
            for number in range(KILLS):
                await workers.listens(await workers.kill(number % 2))
    assert (seen.failed, seen.not_ready) == ([], [])
    assert len(seen.broken) <= 2 * KILLS, seen.broken
    assert seen.tokens > KILLS
    assert min(seen.answered.values()) > KILLS


async def test_worker_that_can_not_serve_yet_is_asked_nothing(
    envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """It would tell half of the probes that the pod is not ready, and half of the callers that there is no token."""
    absent = AbsentDatabase(database, tmp_path)
    absent.comes()
    async with serving(envoy, absent.url, DATABASE_SECONDS="0.5") as workers:
        absent.goes()
        pid = await workers.kill(0)
        await workers.event('broker.not_ready", "worker": 0,')
        seen = Seen()
        for _ in range(PROBES):
            await asyncio.gather(seen.probe_http(workers), seen.probe_grpc(workers))
        assert (seen.not_ready, seen.broken) == ([], [])
        assert seen.answered == {"http": PROBES, "grpc": PROBES}
        absent.comes()
        await workers.listens(pid)


async def test_where_no_worker_can_serve_one_tells_what_it_waits_for(
    envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """Nobody would restart a pod that waits for its database, and an operator can ask it."""
    absent = AbsentDatabase(database, tmp_path)
    async with starting(envoy, absent.url, DATABASE_SECONDS="0.5") as workers:
        await workers.event('broker.not_ready", "worker": 1,')
        async with httpx.AsyncClient(base_url=workers.http, trust_env=False) as client:
            assert (await client.get("/healthz")).status_code == httpx.codes.OK
            answer = await client.get("/readyz")
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert "database" in answer.text
        absent.comes()
        for pid in workers.pids().values():
            await workers.listens(pid)


async def test_worker_that_comes_up_no_more_ends_the_others_only_when_none_serves(
    envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """A file that was broken since the start is found at a worker's restart: while one serves, callers are served."""
    keyset = tmp_path / "keyset"
    keyset.write_text(KEYSET)
    async with serving(envoy, database, KEYSET_FILE=str(keyset)) as workers:
        await envoy.install(INSTALL_ID, webhook_url=workers.webhook_url)
        keyset.unlink()
        await workers.kill(1)
        await workers.event('status": 1, "restarts_in_seconds"')
        async with channels(workers.grpc_address) as opened:
            seen = Seen()
            await seen.call(opened[0], INSTALL_ID)
        assert seen.failed == []
        os.kill(workers.pids()[0], signal.SIGKILL)
        ended = await workers.process.end()
    assert ended.code == 1
    assert '"worker.given_up"' in ended.err
    assert "TOKEN_BROKER_KEYSET_FILE" in ended.err


async def test_record_that_workers_share_verifies(envoy: ServedEnvoy, database: str, tmp_path: Path) -> None:
    """Each has a chain of its own in the one file, and all are whole."""
    trail, key = tmp_path / "audit.jsonl", {"TOKEN_BROKER_AUDIT_KEY": SECRET.reveal()}
    async with serving(envoy, database, AUDIT_LOG=str(trail), AUDIT_KEY=SECRET.reveal()) as workers:
        await envoy.install(INSTALL_ID, webhook_url=workers.webhook_url)
        async with asked_all_the_time(workers, INSTALL_ID) as seen:

            async def both_have_written() -> bool:
                return trail.read_text().count('"kind":"checkpoint"') > 1 and seen.tokens > 1000

            await eventually(both_have_written)
        workers.process.signal(signal.SIGTERM)
        await workers.process.end()
    public_key = (await token_broker("audit", "public-key", env=key)).out.strip()
    verified = await token_broker("audit", "verify", str(trail), "--interleaved", "--public-key", public_key)
    assert (verified.code, verified.err) == (0, "")
    assert verified.out.count("closed") == 2
