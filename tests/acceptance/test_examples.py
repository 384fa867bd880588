"""The example in Python beside its sandbox, by the command that `make example-python` runs; CI runs the others."""

import signal
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.acceptance.sandboxes import left_in
from tests.processes import run, running

CHECKOUT: Final = Path(__file__).parents[2]
EXAMPLE: Final = (sys.executable, "-m", "examples.run", "python")


async def test_it_answers_and_heals_a_401_and_ends_with_0(temporary: Path) -> None:
    """What an example is for: the second answer is there though its token had been revoked at Envoy."""
    ended = await run(*EXAMPLE, "--once", env={"TMPDIR": str(temporary)}, cwd=CHECKOUT)
    assert ended.code == 0, ended.err
    for step, fact in (
        ("ask  ", "of generation 1"),
        ("revoke  ", "told nobody"),
        ("ask again  ", "of generation 2"),
        ("unknown  ", "502, INSTALL_NOT_FOUND"),
    ):
        assert any(step in line and fact in line for line in ended.out.splitlines()), ended.out
    assert "The 401 was healed" in ended.out
    assert "simulated-at-" not in ended.out + ended.err
    assert left_in(temporary) == []


async def test_it_stays_up_and_is_gone_after_ctrl_c(temporary: Path) -> None:
    """A newcomer asks it by the line that it prints; nothing goes on listening behind his back."""
    async with running(*EXAMPLE, env={"TMPDIR": str(temporary)}, cwd=CHECKOUT) as up:
        url = (await up.out.line("curl -i")).split("'")[1]
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(url)
            assert answer.json()["data"]["id"] == "100000"
            assert int(answer.headers["token-generation"]) > 1
            up.signal(signal.SIGINT)
            assert (await up.end()).code == 0
            with pytest.raises(httpx.ConnectError):
                await client.get(url)
