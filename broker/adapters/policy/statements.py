"""Takes a policy file apart, policy by policy, so that a problem can be told with its line.

Cedar's own errors have no lines. And its parser recurses: an expression of some thousand operators ends the
whole process by a stack overflow (cedarpy 4.12), which nothing can catch. So what is nested too deeply is refused
here, before Cedar sees it.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

# A tenth of what overflows the 8 MiB that a thread has on Linux.
MAX_NESTING: Final = 24
MAX_OPERATORS: Final = 200

# Cedar's tokens, as far as they matter. What stands in a string or a comment does not.
_TOKEN: Final = re.compile(
    r"""(?P<comment>//[^\n\r]*)
      | (?P<string>"(?:\\.|[^"\\])*")
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<operator>&&|\|\||[-+*.!]|\bif\b|\bwhen\b|\bunless\b)
      | (?P<end>;)
      | (?P<word>\w+|\S)""",
    re.VERBOSE,
)


class Statement(NamedTuple):
    """One policy. Attributes: line: where it begins, from 1. problem: why Cedar must not see it; None if it may."""

    text: str
    line: int
    problem: str | None


def split(text: str) -> list[Statement]:
    """The policies of a file, in its order; what stands behind the last `;` is one too, if it is more than comment."""
    return [_statement(text, tokens) for tokens in _between_ends(text)]


def _between_ends(text: str) -> Iterator[list[re.Match[str]]]:
    tokens: list[re.Match[str]] = []
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "comment":
            continue
        tokens.append(token)
        if token.lastgroup == "end":
            yield tokens
            tokens = []
    if tokens:
        yield tokens


def _statement(text: str, tokens: list[re.Match[str]]) -> Statement:
    begin, end = tokens[0].start(), tokens[-1].end()
    return Statement(text[begin:end], text.count("\n", 0, begin) + 1, _problem(tokens))


def _problem(tokens: list[re.Match[str]]) -> str | None:
    depth = deepest = operators = 0
    for token in tokens:
        depth = max(depth + (token.lastgroup == "open") - (token.lastgroup == "close"), 0)
        deepest = max(deepest, depth)
        operators += token.lastgroup in {"operator", "open"}
    if deepest > MAX_NESTING:
        return f"nests brackets deeper than {MAX_NESTING} levels"
    if operators > MAX_OPERATORS:
        return f"has more than {MAX_OPERATORS} operators and brackets; make it several policies"
    return None
