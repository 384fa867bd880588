"""Moves lists to where zensical's Markdown sees them as code hosts do.

zensical reads Python-Markdown: a list needs a blank line before it, and what belongs to an item four spaces a level. Code
hosts read CommonMark, where neither is so. The documents are written for code hosts.
"""

import re
from typing import Final, NamedTuple

from markdown_it import MarkdownIt

_LISTS: Final = frozenset({"bullet_list_open", "ordered_list_open"})
_MARKER: Final = re.compile(r" *(?:[-*+]|\d+[.)]) +")
_FENCES: Final = ("```", "~~~")
_INDENT_OF_A_LEVEL: Final = 4
_PARSER: Final = MarkdownIt("commonmark").enable("table")


class _Item(NamedTuple):
    """An item of a list: its lines, and how far its content is moved in."""

    first: int
    end: int
    offset: int


def as_zensical_reads_it(text: str) -> str:
    """`text` with its lists apart from what stands before them, and their items moved in by whole levels."""
    lines = text.splitlines()
    items, apart = _items(lines, text)
    written: list[str] = []
    for number, line in enumerate(lines):
        if number in apart and written and written[-1].strip():
            written.append("")
        inside = [item for item in items if item.first <= number < item.end]
        written.append(_moved(line, number, inside))
    return "\n".join(written) + "\n"


def _items(lines: list[str], text: str) -> tuple[list[_Item], set[int]]:
    """The items, the outer ones first; and the lines before which there must be a blank one."""
    items, apart = [], set()
    for token in _PARSER.parse(text):
        if token.map is None:
            continue
        first, end = token.map
        if token.type in _LISTS and token.level == 0:
            apart.add(first)
        if token.type == "list_item_open":
            marker = _MARKER.match(lines[first])
            items.append(_Item(first, end, marker.end() if marker else 0))
            if any(not line.strip() or line.lstrip().startswith(_FENCES) for line in lines[first:end]):
                apart.add(end)  # behind an item of several parts
    return items, apart


def _moved(line: str, number: int, inside: list[_Item]) -> str:
    if not inside or not line.strip():
        return line
    bare = line.lstrip(" ")
    if inside[-1].first == number:
        return " " * _INDENT_OF_A_LEVEL * (len(inside) - 1) + bare
    beyond = max(0, len(line) - len(bare) - inside[-1].offset)
    return " " * (_INDENT_OF_A_LEVEL * len(inside) + beyond) + bare
