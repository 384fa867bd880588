"""`make run ARGS="--once --json"`: the first command of the README, for programs."""

import json
import sys
from pathlib import Path

from tests.acceptance.sandboxes import left_in
from tests.processes import Finished, run
from tests.toolchains import requires_program

CHECKOUT = Path(__file__).parents[2]
CONTRACT = {
    "install_id": str,
    "plugin_id": str,
    "company_id": str,
    "state": str,
    "generation": int,
    "token_type": str,
    "expires_in": int,
    "access_token_masked": str,
    "grpc": str,
    "http": str,
    "envoy": str,
    "timings_ms": dict,
}


async def make_run(arguments: str, temporary: Path) -> Finished:
    """`make run` in this environment: made anew, it would go from under the tests that run in it."""
    programs = Path(sys.executable).parent
    return await run(
        requires_program("make"),
        "--no-print-directory",
        "--old-file=.venv/.made-from-lock",
        "run",
        f"BIN={programs}",
        f"ARGS={arguments}",
        env={"TMPDIR": str(temporary)},
        cwd=CHECKOUT,
    )


async def test_once_as_json_is_one_object_with_the_contracts_keys(temporary: Path) -> None:
    """Other programs lean on these names; every word for people goes to stderr."""
    ended = await make_run("--once --json --ports auto", temporary)
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert {name: type(value) for name, value in document.items()} == CONTRACT
    assert list(document) == list(CONTRACT)
    assert (document["install_id"], document["plugin_id"], document["company_id"]) == (
        "1000000",
        "4242",
        "100000",
    )
    assert (document["state"], document["generation"]) == ("ACTIVE", 1)
    assert document["token_type"] == "Bearer"
    assert 86_000 < document["expires_in"] <= 86_400
    assert document["access_token_masked"].startswith("********")
    assert all(isinstance(took, int | float) and took >= 0 for took in document["timings_ms"].values())
    assert len({document["grpc"], document["http"], document["envoy"]}) == 3
    assert left_in(temporary) == []


async def test_bad_settings_end_it_with_all_of_them(temporary: Path) -> None:
    """The sandbox takes the broker's settings too, and is as strict."""
    marker = "do-not-show-me"
    programs = Path(sys.executable).parent
    ended = await run(
        programs / "token-broker",
        "sandbox",
        "run",
        "--once",
        "--json",
        "--ports=auto",
        env={
            "TMPDIR": str(temporary),
            "TOKEN_BROKER_REFLECTON": marker,
            "TOKEN_BROKER_CALL_SECONDS": marker,
        },
    )
    assert (ended.code, ended.out) == (1, "")
    assert "TOKEN_BROKER_REFLECTON is no setting; did you mean TOKEN_BROKER_REFLECTION?" in ended.err
    assert "TOKEN_BROKER_CALL_SECONDS" in ended.err
    assert marker not in ended.err
    assert "Traceback" not in ended.err
    assert left_in(temporary) == []
