"""Policies and their groups. The input is the policy's text; behind a line of its own, if it is there, the groups'."""

from typing import Final

from broker.adapters.policy.policy import Policy
from broker.adapters.policy.reading import PolicyBroken, parse_policy
from broker.adapters.policy.who_can import who_can
from broker.domain.callers import Caller, KnownBy, Operation, Subject

ENDS: Final = frozenset({"policy", "broken policy", "broken groups"})

GROUPS_FOLLOW: Final = "\n=== groups\n"
BILLING: Final = Caller("billing", KnownBy.CERTIFICATE)
INSTALL: Final = Subject("4242", "1000000", "7")


def try_one(data: bytes) -> str:
    """Read it as the two files' content; ask what was read."""
    text, _, groups = data.decode("utf-8", "replace").partition(GROUPS_FOLLOW)
    try:
        policy = parse_policy(text, groups or "{}")
    except PolicyBroken as broken:
        return _kind(broken)
    for operation in (Operation.GET_TOKEN, Operation.VOUCH_FOR_WEBHOOK):
        _ask(policy, operation)
    return "policy"


def _kind(broken: PolicyBroken) -> str:
    first, *_ = broken.problems
    assert all(problem.isprintable() for problem in broken.problems)
    return "broken groups" if first.startswith("the groups file") else "broken policy"


def _ask(policy: Policy, operation: Operation) -> None:
    """What was read can be asked, and both ways of asking agree."""
    decision = policy.decide(BILLING, operation, INSTALL)
    assert set(decision.rules) <= policy.rules.keys()
    assert decision.rules or not decision.allowed
    permitted = who_can(policy, operation, INSTALL).callers
    if any(caller.name == BILLING.name and BILLING.known_by in caller.known_by for caller in permitted):
        assert decision.allowed
