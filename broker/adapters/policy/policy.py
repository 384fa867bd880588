"""A policy that has been read: what it says of a caller, an operation and a subject."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import cedarpy
from cedarpy import pst

from broker.adapters.policy.groups import Groups
from broker.adapters.policy.model import SCHEMA, entities_of, request_of
from broker.domain.callers import Caller, Operation, Subject

MAX_LINE_CHARACTERS: Final = 600
# Cedar calls the policies policy0, policy1, … in the order of their text.
_NUMBERED: Final = "policy"
_FAILED: Final = re.compile(rf"error while evaluating policy `{_NUMBERED}(\d+)`")


class Decision(NamedTuple):
    """What a policy says.

    Attributes:
        rules: the names of the policies that decided; none if nothing gives it.
        errors: why it could not be decided, which refuses.
    """

    allowed: bool
    rules: tuple[str, ...]
    errors: tuple[str, ...]


class Policy:
    """A policy that can be asked.

    Attributes:
        rules: the policies of its file by their names, in its order. A name is the policy's @id, or the line where it
            begins.
        version: another one if a byte of the policy or of the groups is another.
    """

    def __init__(
        self, policies: cedarpy.PolicySet, rules: Mapping[str, pst.Template], groups: Groups, version: str
    ) -> None:
        """`rules`: in the order of `policies`."""
        self._policies = policies
        self._names = tuple(rules)
        self.rules = rules
        self.groups = groups
        self.version = version

    def decide(self, caller: Caller, operation: Operation, subject: Subject) -> Decision:
        """Whether `caller` may, and by which policies.

        Raises:
            ValueError: a name can't be said in UTF-8.
        """
        result = cedarpy.is_authorized(
            request_of(caller, operation, subject),
            self._policies,
            entities_of(caller, self.groups.of(caller.name), operation, subject),
            SCHEMA,
        )
        errors = tuple(one_line(_FAILED.sub(self._failed, error)) for error in result.diagnostics.errors)
        decided = sorted(int(rule.removeprefix(_NUMBERED)) for rule in result.diagnostics.reasons)
        # Cedar goes on without a policy that fails. If that one forbids, it would give what is forbidden.
        return Decision(
            result.allowed and not errors, tuple(self._names[number] for number in decided), errors
        )

    def _failed(self, numbered: re.Match[str]) -> str:
        return f"policy {self._names[int(numbered[1])]} failed"

    def narrowed(self, rules: Mapping[str, pst.Template]) -> "Policy":
        """A policy of these rules and groups alone."""
        numbered = [replace(rule, id=f"{_NUMBERED}{number}") for number, rule in enumerate(rules.values())]
        policies = cedarpy.PolicySet.from_pst(pst.PolicySet({}, {rule.id: rule for rule in numbered}, ()))
        return Policy(policies, rules, self.groups, self.version)


def one_line(text: str) -> str:
    """`text` as one line of bounded length, whatever names stand in it."""
    shown = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:MAX_LINE_CHARACTERS])
    return "".join(shown)
