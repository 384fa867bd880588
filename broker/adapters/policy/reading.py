"""Reads a policy, strictly.

Cedar's schema refuses an action, an attribute or a kind of entity that is not there. On top of that `_Reading` refuses
what looks right and does not do what it says: a group that nobody is in, a slot that nothing fills, a name that two
policies have, and a file that is empty, perhaps because it is being written.
"""

import hashlib
from pathlib import Path
from stat import S_ISREG
from typing import Final

import cedarpy
from cedarpy import pst

from broker.adapters.policy.groups import Groups, parse_groups
from broker.adapters.policy.model import GROUP, SCHEMA
from broker.adapters.policy.policy import Policy, one_line
from broker.adapters.policy.statements import Statement, split

# A decision takes the longer the more policies there are; groups cost nothing.
MAX_POLICY_BYTES: Final = 256 * 1024
MAX_GROUPS_BYTES: Final = 1024 * 1024
VERSION_CHARACTERS: Final = 12
MAX_PROBLEMS_TOLD: Final = 5


class PolicyBroken(ValueError):
    """The files hold no policy that can be used. Attributes: problems: one line each."""

    def __init__(self, *problems: str) -> None:
        more = len(problems) - MAX_PROBLEMS_TOLD
        super().__init__("; ".join(problems[:MAX_PROBLEMS_TOLD]) + (f"; and {more} more" if more > 0 else ""))
        self.problems = problems


def read_policy(policy_file: Path, groups_file: Path | None = None) -> Policy:
    """The policy in the files.

    Raises:
        PolicyBroken: a file can't be read, or says what can't be.
    """
    text = _text_of(policy_file, "the policy file", MAX_POLICY_BYTES)
    if groups_file is None:
        return parse_policy(text)
    return parse_policy(text, _text_of(groups_file, "the groups file", MAX_GROUPS_BYTES))


def parse_policy(text: str, groups_text: str = "{}") -> Policy:
    """The policy that the texts of the two files say.

    Raises:
        PolicyBroken: with every problem there is.
    """
    groups_problems: list[str] = []
    groups = parse_groups(groups_text, groups_problems)
    reading = _Reading(groups)
    for statement in split(text):
        reading.add(statement)
    problems = [*(f"the groups file: {problem}" for problem in groups_problems), *reading.problems]
    if not (problems or reading.rules):
        problems = [
            "the policy file has no policy; to refuse everybody, write `forbid (principal, action, resource);`"
        ]
    if problems:
        raise PolicyBroken(*problems)
    policies = cedarpy.PolicySet.from_str(text, release_gil=True)
    if len(policies) != len(reading.rules):
        raise PolicyBroken("the policy file can't be taken apart into its policies")
    return Policy(policies, reading.rules, groups, _version(text, groups_text))


class _Reading:
    """Policies as they are read, one after the other. Attributes: rules, problems: what was found so far."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self.rules: dict[str, pst.Template] = {}
        self.problems: list[str] = []

    def add(self, statement: Statement) -> None:
        """One more policy."""
        place = f"the policy file, line {statement.line}"
        try:
            rule = _parsed(statement)
        except ValueError as error:
            self.problems.append(f"{place}: {one_line(str(error))}")
            return
        name = rule.annotations.get("id") or self._place(statement.line)
        findings = [*_unfit(statement), *self._mistaken(name, rule)]
        self.problems.extend(f"{place}: {one_line(finding)}" for finding in findings)
        self.rules[name] = rule

    def _place(self, line: int) -> str:
        name = f"line {line}"
        return name if name not in self.rules else f"{name}, policy {len(self.rules) + 1} of the file"

    def _mistaken(self, name: str, rule: pst.Template) -> list[str]:
        unknown = sorted(named(rule, GROUP) - self._groups.members.keys())
        findings = [f'Group::"{group}" does not stand in the groups file' for group in unknown]
        if name in self.rules:
            findings.append(f'another policy has the same @id("{name}")')
        return findings


def named(rule: pst.Template, kind: str) -> set[str]:
    """The entities of a kind that a policy names, by their ids."""
    return {uid.id for uid in pst.entity_uids(rule) if str(uid.type) == kind}


def _parsed(statement: Statement) -> pst.Template:
    """Raises ValueError if it is no policy that the broker can use."""
    if statement.problem is not None:
        raise ValueError(statement.problem)
    parsed = cedarpy.policies_to_pst(statement.text)
    if parsed.templates:
        raise ValueError("has a slot such as ?principal, which nothing fills")
    (rule,) = parsed.static_policies.values()
    return rule


def _unfit(statement: Statement) -> list[str]:
    """What the schema has against it."""
    errors = cedarpy.validate_policies(statement.text, SCHEMA).errors
    return [error.error.removeprefix(f"for policy `{error.policy_id}`, ") for error in errors]


def _version(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:VERSION_CHARACTERS]


def _text_of(path: Path, what: str, max_bytes: int) -> str:
    try:
        # A pipe would keep the reader waiting.
        if not S_ISREG(path.stat().st_mode):
            raise PolicyBroken(f"{what} is no regular file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise PolicyBroken(f"{what} has more than {max_bytes} bytes")
        return content.decode()
    except OSError as error:
        raise PolicyBroken(f"{what} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PolicyBroken(f"{what} is no UTF-8 text") from None
