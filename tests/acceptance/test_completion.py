"""What a shell is told when somebody presses TAB behind `token-broker`."""

import shutil
from typing import Final

import pytest

from broker.cli import completion
from tests.processes import TOKEN_BROKER, run

COMMANDS: Final = {
    "serve",
    "migrate",
    "doctor",
    "version",
    "keys",
    "token",
    "installs",
    "policy",
    "audit",
    "sandbox",
}
# What typer's script for bash does when it is sourced and called as bash calls it, but for the terminal.
IN_BASH: Final = """
eval "$(_TOKEN_BROKER_COMPLETE=source_bash token-broker)"
COMP_WORDS=(token-broker do) COMP_CWORD=1
_token_broker_completion token-broker do token-broker
echo "${COMPREPLY[@]}"
"""


async def completed(*words: str) -> set[str]:
    """What may stand in the place of the last word."""
    asked = {
        "_TOKEN_BROKER_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["token-broker", *words]),
        "COMP_CWORD": str(len(words)),
    }
    ended = await run(TOKEN_BROKER, env=asked)
    assert (ended.code, ended.err) == (0, "")
    return set(ended.out.split())


async def test_commands_are_completed() -> None:
    """All of them, and no other word."""
    assert await completed("") == COMMANDS
    assert await completed("do") == {"doctor"}
    assert {"list", "get", "refresh", "delete"} <= await completed("installs", "")


async def test_options_and_their_values_are_completed() -> None:
    """Nobody remembers the operations' names."""
    assert "--json" in await completed("doctor", "--")
    assert await completed("policy", "explain", "--operation", "Re") == {
        "RefreshInstall",
        "ReportRejectedToken",
    }
    assert await completed("sandbox", "run", "--ports", "") == {"default", "auto"}


def test_states_begin_as_what_is_typed() -> None:
    """In whatever case; the option takes both."""
    assert completion.states("re") == ["REAUTHORIZATION_REQUIRED"]
    assert completion.states("") == ["PROVISIONAL", "ACTIVE", "REAUTHORIZATION_REQUIRED", "UNINSTALLED"]


async def test_a_real_bash_completes() -> None:
    """The script that `--install-completion` puts in place works with the program as it is installed."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    env = {"PATH": f"{TOKEN_BROKER.parent}:/usr/bin:/bin"}
    ended = await run(bash, "--norc", "-c", IN_BASH, env=env)
    assert (ended.out.strip(), ended.err) == ("doctor", "")


async def test_script_can_be_shown_and_installed() -> None:
    """Both are said in the help, where somebody looks for them."""
    shown = await run(TOKEN_BROKER, "--help")
    assert "--install-completion" in shown.out
    assert "--show-completion" in shown.out
