"""The runner of clients/conformance: what it says of clients that are none, and of a table that nobody understands."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from clients.conformance import grammar
from clients.conformance.steps import VERBS
from clients.conformance.table import Scenario, read_scenarios
from tests.processes import Finished, run

CHECKOUT: Final = Path(__file__).parents[2]
# It knows the protocol of an adapter, and nothing of tokens.
LIAR: Final = """
import json, sys
for line in sys.stdin:
    command = json.loads(line)
    token = {"token": "made up", "generation": 1, "company": "made up"} if command["do"] == "get" else {}
    print(json.dumps({"id": command["id"], **token}), flush=True)
"""
QUITTER: Final = "import sys; sys.exit('no reason at all')"


async def played(folder: Path, *arguments: str) -> Finished:
    """The runner, to its end."""
    quiet = {"TMPDIR": str(folder), "GRPC_VERBOSITY": "NONE"}
    return await run(sys.executable, "-m", "clients.conformance", *arguments, env=quiet, cwd=CHECKOUT)


async def test_clients_that_are_none_fail_each_with_its_line(temporary: Path) -> None:
    """A table that anything passes defines nothing; and one client's end must not be the others'."""
    clients: list[dict[str, Any]] = [
        {"client": "liar", "run": [sys.executable, "-c", LIAR]},
        {"client": "quitter", "run": [sys.executable, "-c", QUITTER]},
        {"client": "unbuilt", "build": "exit 7", "run": ["false"]},
    ]
    (temporary / "mine.yaml").write_text(json.dumps(clients))
    ended = await played(
        temporary,
        "--adapters",
        str(temporary / "mine.yaml"),
        "--scenario",
        "first_token_is_the_brokers",
    )
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[-1] == "conformance: 1 scenarios, 3 clients, 3 failed"
    assert "FAILED unbuilt: its build ended with 7" in lines
    assert any("expected company company-1000001, got made up" in line for line in lines), ended.out
    assert any("the adapter has ended" in line for line in lines), ended.out
    assert "    | no reason at all" in lines


async def test_a_client_passes_by_what_it_does(temporary: Path) -> None:
    """The last line is what a gate, and a reader, goes by."""
    ended = await played(temporary, "--client", "python-async", "--scenario", "fresh_from_memory")
    assert ended.out.splitlines()[-1] == "conformance: 1 scenarios, 1 clients, all passed", ended.err
    assert ended.code == 0


async def test_names_that_nobody_has_are_told(temporary: Path) -> None:
    """A scenario that is misspelt, and so not played, must not look like one that passed."""
    ended = await played(temporary, "--client", "cobol", "--scenario", "fresh_from_memory")
    assert ended.code == 2
    assert "no such scenario or client: cobol" in ended.err


def test_the_grammar_has_the_verbs_that_are_played() -> None:
    """One that is checked and not played, or played and not checked, is a hole in the table."""
    assert frozenset(VERBS) == grammar.VERBS


def test_each_scenario_says_what_it_expects() -> None:
    """Steps that look at nothing pass whatever a client does."""
    looks = {"expect", "calls", "every_gate", "watched", "known", "unsubscribed", "masked", "api_saw", "has"}
    for scenario in read_scenarios():
        said = {word for step in scenario.steps for word in step}
        assert said & (looks | {"get", "peer", "until"}) or not scenario.opens, scenario.name


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"gett": "a"}, "'gett' is no verb"),
        ({"get": "a", "expects": {"generation": 1}}, "nobody knows expects"),
        ({"get": "a", "expect": {"generations": 1}}, "nobody knows generations"),
        ({"refuse": "GetToken"}, "refuse wants code"),
        ({"calls": {"GetTokens": 0}}, "nobody knows GetTokens"),
        ({"hold": "GetTokens"}, "nobody knows GetTokens"),
    ],
)
def test_a_step_that_would_assert_nothing_is_refused(step: dict[str, Any], problem: str) -> None:
    """A misspelt word is silent otherwise: the scenario goes on passing, and proves nothing."""
    with pytest.raises(ValueError, match=problem):
        Scenario(name="made_up", why="To be refused.", steps=[step])


def test_an_option_that_open_has_not_is_refused() -> None:
    """A client would be opened with its default, and the scenario would mean another."""
    with pytest.raises(ValueError, match="nobody knows max_instals"):
        Scenario(name="made_up", why="To be refused.", options={"max_instals": 2}, steps=[])
