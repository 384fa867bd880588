"""The smoke test of the stubs says what came of a recipe, and no language goes missing in silence."""

from pathlib import Path

import pytest

from clients.stubs.recipes import FOLDER, Recipe, recipes
from clients.stubs.sandbox_broker import SandboxBroker
from clients.stubs.smoke import Smoke
from clients.stubs.trial import Trial, Verdict, try_recipe

BROKER = SandboxBroker(
    target="127.0.0.1:50051", install="1000000", token_type="Bearer", generation=3, expires_in_seconds=86_400
)
READS_A_TOKEN = 'test "$2" = 1000000 && echo Bearer 3 86394 || { echo INSTALL_NOT_FOUND >&2; exit 1; }\n'


def _tried(
    folder: Path,
    program: str = READS_A_TOKEN,
    *,
    build: str = "true",
    needs: str = "sh",
    untested: str = "",
    in_ci: bool = True,
) -> Trial:
    """What came of a language whose program is a script."""
    source = folder / "source"
    source.mkdir()
    (source / "read_token").write_text(program)
    recipe = Recipe(
        language="Shell",
        folder=str(source),
        needs="",
        programs=[needs],
        build=build,
        run="sh read_token",
        shows=["read_token"],
        untested=untested,
    )
    return try_recipe(Smoke(recipe, folder / "made", {"API": "protos"}), BROKER, in_ci=in_ci)


def test_every_folder_has_a_recipe_and_every_file_it_names_is_there() -> None:
    """A program without a recipe is compiled by nobody; a recipe without its file prints nothing."""
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {recipe.folder for recipe in recipes()} == folders
    assert [
        name
        for recipe in recipes()
        for name in recipe.shows + recipe.names
        if not (recipe.source / name).is_file()
    ] == []


def test_a_recipe_passes_when_it_reads_the_token_and_the_reason(tmp_path: Path) -> None:
    """The other tests would prove nothing if no recipe passed."""
    assert _tried(tmp_path, build='test "$API" = protos').verdict is Verdict.PASSED


@pytest.mark.parametrize(
    "program",
    [
        READS_A_TOKEN.replace("Bearer 3", "Bearer 2"),
        READS_A_TOKEN.replace("86394", "0"),
        READS_A_TOKEN.replace("86394", "86401"),
        READS_A_TOKEN.replace("echo Bearer 3 86394", "true"),
        READS_A_TOKEN.replace("INSTALL_NOT_FOUND", "NOT_FOUND"),
        READS_A_TOKEN.replace("exit 1", "exit 0"),
        "echo Bearer 3 86394\n",
    ],
)
def test_a_program_that_tells_anything_else_fails(tmp_path: Path, program: str) -> None:
    """Stubs that read the wrong field, or lose the reason, compile all the same."""
    assert _tried(tmp_path, program).verdict is Verdict.FAILED


def test_a_build_that_fails_ends_it_with_its_last_words(tmp_path: Path) -> None:
    """Whoever reads CI's log has nothing else to go by."""
    trial = _tried(tmp_path, build="echo no such option >&2; false; true")
    assert trial == (Verdict.FAILED, "no such option")


def test_a_missing_program_is_named_and_fails_in_ci_alone(tmp_path: Path) -> None:
    """A laptop need not have ten toolchains; CI that lost one must not stay green."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    assert _tried(here, needs="no-such-compiler", in_ci=False) == (Verdict.SKIPPED, "needs no-such-compiler")
    assert _tried(there, needs="no-such-compiler", in_ci=True) == (Verdict.FAILED, "needs no-such-compiler")


def test_what_is_said_to_be_untested_is_skipped_in_ci_with_the_reason(tmp_path: Path) -> None:
    """Where no toolchain can be had the line says so each time, and the document does."""
    trial = _tried(tmp_path, needs="no-such-compiler", untested="Debian has none")
    assert trial == (Verdict.SKIPPED, "needs no-such-compiler: Debian has none")
