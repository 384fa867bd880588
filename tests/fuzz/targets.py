"""The targets by their names, which are those of their files and of their corpora."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

from tests.fuzz import (
    audit_trails,
    bearer_tokens,
    certificates,
    key_sets,
    policy_questions,
    policy_texts,
    webhooks,
    wire,
)

CORPUS: Final = Path(__file__).with_name("corpus")


class Target(NamedTuple):
    """What is fuzzed.

    Attributes:
        try_one: gives it an input; how that ended. Any exception is a finding.
        ends: all the ways in which an input may end.
    """

    name: str
    try_one: Callable[[bytes], str]
    ends: frozenset[str]

    @property
    def corpus(self) -> Path:
        """The folder of the inputs that are kept."""
        return CORPUS / self.name


def _target(module: ModuleType) -> Target:
    return Target(module.__name__.rpartition(".")[2], module.try_one, module.ENDS)


TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in map(
        _target,
        (
            audit_trails,
            bearer_tokens,
            certificates,
            key_sets,
            policy_questions,
            policy_texts,
            webhooks,
            wire,
        ),
    )
}
