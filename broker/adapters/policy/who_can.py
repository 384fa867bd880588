"""Who may do something: every caller that the files name, and the policies that may give it to others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from cedarpy import pst

from broker.adapters.policy.model import CALLER
from broker.adapters.policy.policy import Policy
from broker.adapters.policy.reading import named
from broker.domain.callers import Caller, KnownBy, Operation, Subject

PROOFS: Final = (KnownBy.CERTIFICATE, KnownBy.TOKEN)


class Permitted(NamedTuple):
    """A caller that may.

    Attributes:
        known_by: how it must be known for that.
        rules: the policies that give it.
    """

    name: str
    groups: tuple[str, ...]
    known_by: tuple[KnownBy, ...]
    rules: tuple[str, ...]


class WhoCan(NamedTuple):
    """Who may do one thing.

    Attributes:
        callers: of those whom policy or groups name.
        groups: those with members, all of whom may.
        open_rules: policies that are not bound to a caller or a group, and so may give it to callers that nobody named.
    """

    callers: tuple[Permitted, ...]
    groups: tuple[str, ...]
    open_rules: tuple[str, ...]


def who_can(policy: Policy, operation: Operation, subject: Subject) -> WhoCan:
    """Ask for each caller that the files name."""
    callers = tuple(_permitted(policy, operation, subject))
    names = {caller.name for caller in callers}
    groups = [group for group, members in policy.groups.members.items() if members and members <= names]
    return WhoCan(callers, tuple(sorted(groups)), _open_rules(policy, operation, subject))


def _permitted(policy: Policy, operation: Operation, subject: Subject) -> Iterator[Permitted]:
    for name in sorted(_named_callers(policy)):
        decisions = {proof: policy.decide(Caller(name, proof), operation, subject) for proof in PROOFS}
        proofs = tuple(proof for proof, decision in decisions.items() if decision.allowed)
        if proofs:
            rules = dict.fromkeys(rule for proof in proofs for rule in decisions[proof].rules)
            yield Permitted(name, tuple(sorted(policy.groups.of(name))), proofs, tuple(rules))


def _named_callers(policy: Policy) -> set[str]:
    in_groups = set().union(*policy.groups.members.values())
    return in_groups.union(*(named(rule, CALLER) for rule in policy.rules.values()))


def _open_rules(policy: Policy, operation: Operation, subject: Subject) -> tuple[str, ...]:
    """The policies that give it to anybody who meets their conditions.

    Cedar is asked for a caller that nobody named, and for the policies without a caller in their scope: those that give
    without their conditions, which another caller may meet; those that forbid only if they have none.
    """
    rules = {
        name: replace(rule, clauses=())
        for name, rule in policy.rules.items()
        if _is_open(rule) and (rule.effect == "permit" or not rule.clauses)
    }
    decision = policy.narrowed(rules).decide(Caller("", KnownBy.CERTIFICATE), operation, subject)
    return decision.rules if decision.allowed else ()


def _is_open(rule: pst.Template) -> bool:
    return isinstance(rule.principal, pst.ScopeAny | pst.ScopeIs)
