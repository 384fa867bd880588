"""The recipes of docs/stubs.md: the commands that `make stubs-smoke` runs, and the files that it compiles."""

from pathlib import PurePosixPath
from typing import Final

from clients.stubs.recipes import Recipe, recipes
from docs.syntax import SYNTAX

_SOURCES: Final = PurePosixPath("../clients/stubs")
# What `make run` prints: a broker, and an install that it has.
_TARGET_AND_INSTALL: Final = "127.0.0.1:50051 1000000"


def stub_recipes() -> str:
    """A chapter a language."""
    return "\n\n".join(map(_chapter, recipes()))


def _chapter(recipe: Recipe) -> str:
    blocks = [f"## {recipe.language}\n{recipe.needs.rstrip()}"]
    if recipe.untested:
        blocks.append(f"Our tests do not compile it: {recipe.untested}.")
    blocks.append(_code("sh", f"{recipe.build}{recipe.run} {_TARGET_AND_INSTALL}"))
    for name in recipe.shows:
        text = (recipe.source / name).read_text(encoding="utf-8")
        blocks += [f"{_link(recipe, name)}:", _code(SYNTAX.get(PurePosixPath(name).suffix, "text"), text)]
    if recipe.names:
        blocks.append(f"With {' and '.join(_link(recipe, name) for name in recipe.names)}.")
    return "\n\n".join(blocks)


def _link(recipe: Recipe, name: str) -> str:
    return f"[{name}]({_SOURCES / recipe.folder / name})"


def _code(syntax: str, text: str) -> str:
    return f"```{syntax}\n{text.rstrip()}\n```"
