"""who_can: everybody who may, and no claim that these are all where a policy names nobody."""

from typing import Final

from broker.adapters.policy.reading import parse_policy
from broker.adapters.policy.who_can import Permitted, WhoCan, who_can
from broker.domain.callers import KnownBy, Operation, Subject

INSTALL: Final = Subject("4242", "1000000", "7")
BOTH: Final = (KnownBy.CERTIFICATE, KnownBy.TOKEN)
NOBODY: Final = WhoCan((), (), ())


def asked(policy: str, groups: str = "{}", operation: Operation = Operation.GET_TOKEN) -> WhoCan:
    """Who may do something to INSTALL."""
    return who_can(parse_policy(policy, groups), operation, INSTALL)


def test_callers_are_found_wherever_the_files_name_them() -> None:
    """In a scope, in a condition, in a group; those who are named and may not are left out."""
    policy = """
        @id("a") permit (principal == Caller::"scope", action, resource in App::"4242");
        @id("b") permit (principal is Caller in Group::"team", action, resource in Company::"7");
        @id("c") permit (principal == Caller::"elsewhere", action, resource in App::"4343");
        @id("d") permit (principal in Caller::"itself", action, resource)
        unless { principal == Caller::"condition" };
    """
    found = asked(policy, '{"team": ["member", "scope"], "others": ["outsider"]}')
    assert found.callers == (
        Permitted("itself", (), BOTH, ("d",)),
        Permitted("member", ("team",), BOTH, ("b",)),
        Permitted("scope", ("team",), BOTH, ("a", "b")),
    )
    assert found.groups == ("team",)
    assert found.open_rules == ()


def test_group_is_named_only_if_each_of_its_members_may() -> None:
    """And an empty one not at all: nobody in it may."""
    policy = """
        permit (principal in Group::"team", action, resource);
        permit (principal in Group::"empty", action, resource);
        forbid (principal == Caller::"suspended", action, resource);
    """
    found = asked(policy, '{"team": ["member", "suspended"], "empty": []}')
    assert [caller.name for caller in found.callers] == ["member"]
    assert found.groups == ()


def test_condition_on_how_a_caller_is_known_is_told() -> None:
    """Else the answer would be wrong for half of the ways in."""
    policy = 'permit (principal == Caller::"a", action, resource) when { principal.known_by == "token" };'
    assert asked(policy).callers == (Permitted("a", (), (KnownBy.TOKEN,), ("line 1",)),)


def test_policy_that_names_nobody_is_told() -> None:
    """Its conditions may be met by callers whom no file names."""
    policy = """
        @id("people") permit (principal, action, resource) when { principal.name like "people/*" };
        @id("typed") permit (principal is Caller, action, resource in App::"4242");
        @id("elsewhere") permit (principal, action, resource in App::"4343");
        @id("bound") permit (principal == Caller::"a", action, resource);
    """
    assert asked(policy).open_rules == ("people", "typed")


def test_open_policy_is_not_told_where_all_is_forbidden() -> None:
    """A `forbid` with a condition may spare somebody, one without spares nobody."""
    policy = "permit (principal, action, resource);"
    assert asked(f"{policy} forbid (principal, action, resource);") == NOBODY
    sparing = asked(f'{policy} forbid (principal, action, resource) unless {{ principal.name == "a" }};')
    assert sparing.open_rules == ("line 1",)
    others = asked(f'{policy} forbid (principal == Caller::"a", action, resource);')
    assert others.open_rules == ("line 1",)


def test_nobody_may_what_nothing_gives() -> None:
    """A policy for other operations is none for this."""
    assert asked('permit (principal == Caller::"a", action in Action::"useTokens", resource);').callers
    policy = 'permit (principal == Caller::"a", action in Action::"useTokens", resource);'
    assert asked(policy, operation=Operation.DELETE_INSTALL) == NOBODY
