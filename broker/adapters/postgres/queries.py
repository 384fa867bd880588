"""Loads queries.sql: the statements by their names."""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Final, LiteralString

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load_queries() -> Mapping[str, LiteralString]:
    """Every statement of queries.sql. They are part of the package, so literal as far as psycopg cares."""
    text = resources.files(__package__).joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    names, statements = parts[::2], parts[1::2]
    return {name: sql.strip() for name, sql in zip(names, statements, strict=True)}


QUERIES: Final = load_queries()
