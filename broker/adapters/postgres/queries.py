"""Loads the statements by their names, from the .sql files beside this one."""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Final, LiteralString

FILES: Final = ("queries.sql", "operators.sql")

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
# Lists of columns, which stand in the statements in braces; each may name the one before.
_LISTS: Final = ("seen", "row")


def load_queries() -> Mapping[str, LiteralString]:
    """Every statement there is. They are part of the package, so literal as far as psycopg cares."""
    folder = resources.files(__package__)
    texts = {name: sql for file in FILES for name, sql in _named(folder.joinpath(file).read_text("utf-8"))}
    for columns in reversed(_LISTS):
        listed = texts.pop(columns)
        texts = {name: sql.replace(f"{{{columns}}}", listed) for name, sql in texts.items()}
    return texts


def _named(text: str) -> list[tuple[str, LiteralString]]:
    _, *parts = _NAME.split(text)
    return [(name, sql.strip()) for name, sql in zip(parts[::2], parts[1::2], strict=True)]


QUERIES: Final = load_queries()
