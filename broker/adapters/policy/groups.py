"""The groups file: `{"billing": ["spiffe://example.org/billing", …], …}`."""

from collections.abc import Mapping
from typing import Final

from broker.adapters.json_object import REPEATED, UnreadableJson, parse_json_object

MAX_NAME_CHARACTERS: Final = 512


class Groups:
    """Groups of callers. Attributes: members: the callers' names by the group's."""

    def __init__(self, members: Mapping[str, frozenset[str]]) -> None:
        self.members = members
        self._groups_of: dict[str, frozenset[str]] = {}
        for group, names in members.items():
            for name in names:
                self._groups_of[name] = self._groups_of.get(name, frozenset()) | {group}

    def of(self, caller_name: str) -> frozenset[str]:
        """The groups that a caller is in."""
        return self._groups_of.get(caller_name, frozenset())


def parse_groups(text: str, problems: list[str]) -> Groups:
    """The groups that `text` names; what is wrong with it is added to `problems`."""
    try:
        document = parse_json_object(text.encode())
    except UnreadableJson as error:
        problems.append(error.problem)
        return Groups({})
    members = {}
    for number, (group, names) in enumerate(document.items(), 1):
        place = f"group {number}"
        if not _is_name(group):
            problems.append(f"{place}: its name {_NO_NAME}")
        elif names is REPEATED:
            problems.append(f"{place}: another group has the same name")
        elif not isinstance(names, list):
            problems.append(f"{place} must be a list of callers' names")
        else:
            wrong = [position for position, name in enumerate(names, 1) if not _is_name(name)]
            problems.extend(f"{place}, caller {position}: {_NO_NAME}" for position in wrong)
            members[group] = frozenset(name for name in names if _is_name(name))
    return Groups(members)


_NO_NAME: Final = f"must be text of 1 to {MAX_NAME_CHARACTERS} printable characters"


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable()
