"""The recipes of recipes.yaml."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import yaml

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a language gets its stubs; the top of recipes.yaml says what each field is."""

    language: str
    folder: str
    needs: str
    programs: list[str]
    build: str
    run: str
    shows: list[str]
    names: list[str] = field(default_factory=list)
    stand_in: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    untested: str = ""

    @property
    def source(self) -> Path:
        """Where its program stands."""
        return FOLDER / self.folder


@cache
def recipes() -> tuple[Recipe, ...]:
    """All of them, in the document's order.

    Raises:
        TypeError: one has a field that no recipe has, or lacks one.
    """
    written = (FOLDER / "recipes.yaml").read_text(encoding="utf-8")
    return tuple(Recipe(**fields) for fields in yaml.safe_load(written))
