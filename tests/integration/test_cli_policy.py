"""`token-broker policy …` as a process: exit codes, what goes to stdout, and what to stderr."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.processes import Finished, token_broker

POLICY: Final = """\
@id("team-tokens")
permit (principal in Group::"team", action in Action::"useTokens", resource in Company::"7");

permit (principal == Caller::"mallory\\n\\u{1b}[31m", action, resource);
permit (principal, action == Action::"GetInstall", resource) when { principal.name like "people/*" };
"""
BROKEN: Final = 'permit (principal, action == Action::"GetTokn", resource);\npermit everything;\n'
INSTALL: Final = ("--install", "4242/1000000")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A policy and groups, named as for a broker."""
    policy, groups = tmp_path / "policy.cedar", tmp_path / "groups.json"
    policy.write_text(POLICY, encoding="utf-8")
    groups.write_text('{"team": ["billing", "rooms"]}', encoding="utf-8")
    return {"TOKEN_BROKER_POLICY_FILE": str(policy), "TOKEN_BROKER_POLICY_GROUPS_FILE": str(groups)}


async def test_check_counts_and_exits_with_0(environment: dict[str, str]) -> None:
    """It stands before a deployment."""
    policy, groups = environment.values()
    ended = await token_broker("policy", "check", policy, "--groups", groups, env={})
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("3 permit, 0 forbid, 1 groups; version ")


async def test_check_names_each_problem_and_exits_with_1(tmp_path: Path) -> None:
    """On stderr, a line each; a missing file is a problem like another."""
    broken = tmp_path / "broken.cedar"
    broken.write_text(BROKEN, encoding="utf-8")
    wrong, missing = await asyncio.gather(
        token_broker("policy", "check", str(broken), env={}),
        token_broker("policy", "check", str(tmp_path / "nowhere.cedar"), env={}),
    )
    assert (wrong.code, wrong.out, missing.code, missing.out) == (1, "", 1, "")
    lines = wrong.err.splitlines()
    assert lines[0] == "this policy can't be used:"
    assert lines[1].startswith('  the policy file, line 1: unrecognized action `Action::"GetTokn"`')
    assert lines[-1] == "  the policy file, line 2: unexpected token `everything`"
    assert missing.err.endswith("the policy file can't be read: No such file or directory\n")


async def test_explain_takes_the_broker_s_own_files(environment: dict[str, str]) -> None:
    """On the machine where the broker runs the answer is about what it has read."""
    ask = ("policy", "explain", "--caller", "billing", "--operation", "GetToken", *INSTALL)
    allowed, denied = await asyncio.gather(
        token_broker(*ask, "--company", "7", env=environment), token_broker(*ask, env=environment)
    )
    assert allowed == Finished(0, "allowed by team-tokens\n", "")
    assert denied == Finished(0, "denied: no policy gives it\n", "")


async def test_f47_who_can_keeps_each_name_on_its_line(environment: dict[str, str]) -> None:
    """A name in a policy file must not draw on the operator's terminal."""
    ended = await token_broker("policy", "who-can", *INSTALL, "--company", "7", env=environment)
    assert (ended.code, ended.err) == (0, "")
    assert "  mallory\\n\\x1b[31m, by line 4\n" in ended.out
    assert "GetToken:\n  billing, by team-tokens\n" in ended.out
    assert "  that is every member of group team\n" in ended.out
    assert "  and any caller that policy line 5 matches\n" in ended.out


async def test_what_can_t_be_asked_is_refused(environment: dict[str, str]) -> None:
    """With 2, as the command line refuses its other arguments."""
    ask = ("policy", "explain", "--caller", "billing")
    ended = await asyncio.gather(
        token_broker(*ask, "--operation", "GetToken", "--install", "1000000", env=environment),
        token_broker(*ask, "--operation", "Get", *INSTALL, env=environment),
        token_broker(*ask, "--operation", "GetToken", *INSTALL, env={}),
    )
    assert [each.code for each in ended] == [2, 2, 2]
    assert [each.out for each in ended] == ["", "", ""]
    assert "PLUGIN/INSTALL" in ended[0].err
