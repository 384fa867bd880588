"""Reads JSON objects that others wrote, and fails in one way only."""

import json
import math
from collections import Counter
from typing import Final


class _Repeated:
    def __repr__(self) -> str:
        return "REPEATED"


REPEATED: Final = _Repeated()
"""Stands for the value of a name that an object has twice: of no JSON type, so no reader takes it for one."""

_PROBLEMS: Final = {
    "not_utf8": "must be UTF-8",
    "not_json": "must be JSON",
    "too_deep": "is nested too deeply",
    "not_an_object": "must be a JSON object",
}


class UnreadableJson(ValueError):
    """Attributes: kind: one of a few lower-case names. problem: the same for people, after a field's name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.problem = _PROBLEMS[kind]
        super().__init__(self.problem)


def parse_json_object(body: bytes) -> dict[str, object]:
    """The object, at any size and depth of `body`; the caller bounds the size.

    RFC 8259, UTF-8 without a byte-order mark, save that NaN and Infinity are read (one of them in a field
    nobody needs must not cost the others) and that an integer beyond Python's limit of digits is infinite.

    Raises:
        UnreadableJson: for whatever else there may be in `body`.
    """
    kind = "not_an_object"
    document: object = None
    try:
        document = json.loads(body.decode(), object_pairs_hook=_members, parse_int=_integer)
    except UnicodeDecodeError:
        kind = "not_utf8"
    except ValueError:
        kind = "not_json"
    except RecursionError:
        kind = "too_deep"
    if isinstance(document, dict):
        return document
    # Raised out here, so that no cause, which would hold the body, hangs on it.
    raise UnreadableJson(kind)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        members.update({name: REPEATED for name, count in counts.items() if count > 1})
    return members


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return math.inf
