"""A broker calls nobody but those whom its settings name.

That it sends the secret by HTTPS only, follows no redirect and asks no proxy, is proved one by one by the tests of F13
(tests/integration/test_envoy_client.py, test_envoy_client_tls.py); here all that leaves a process is watched.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.egress import DNS_PORT, ELSEWHERE, HTTPS_PORT
from tests.processes import run
from tests.toolchains import requires_program

LACKS: Final = "this machine gives no process a network of its own (unshare --net)"


def own_network() -> list[str | Path]:
    """What to put before a command that gets a network of its own."""
    unshare = requires_program("unshare")
    # Root in a user namespace: enough to order that network, and nothing else.
    for rights in ((), ("--map-root-user",)):
        # Process ids of its own, too: then nothing that it started outlives it, however it ends.
        command: list[str | Path] = [unshare, *rights, "--net", "--pid", "--kill-child"]
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return command
    if os.environ.get("CI"):
        pytest.fail(f"{LACKS}; in CI no test may be skipped", pytrace=False)
    pytest.skip(LACKS)


async def test_f13_broker_sends_to_nobody_but_its_database_envoy_the_key_server_and_the_collector(
    database: str, tmp_path: Path
) -> None:
    """Each of them is seen, so nobody was overlooked; and what this test itself sends elsewhere is seen, too."""
    arguments = (requires_program("ip"), database, tmp_path)
    ended = await run(*own_network(), sys.executable, "-m", "tests.acceptance.egress", *arguments)
    assert ended.code == 0, ended.err
    seen = json.loads(ended.out)
    elsewhere = {f"tcp {ELSEWHERE} {HTTPS_PORT}", f"udp {ELSEWHERE} {DNS_PORT}"}
    assert set(seen["sent_to"]) == {*seen["known"].values(), *elsewhere}
    assert seen["missed"] == 0
