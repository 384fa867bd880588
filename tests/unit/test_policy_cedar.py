"""CedarAuthorizer: what a policy gives, and above all what it does not."""

from typing import Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.adapters.policy.cedar import CedarAuthorizer
from broker.adapters.policy.model import install_name, parse_install_name
from broker.adapters.policy.reading import parse_policy
from broker.domain.callers import Caller, KnownBy, Operation, Subject
from broker.ports import Authorizer

BILLING: Final = Caller("spiffe://example.org/billing", KnownBy.CERTIFICATE)
VISITOR: Final = Caller("spiffe://example.org/visitor", KnownBy.CERTIFICATE)
INSTALL: Final = Subject("4242", "1000000", "7")
APP: Final = Subject("4242")
TOKENS: Final = (Operation.GET_TOKEN, Operation.REPORT_REJECTED_TOKEN, Operation.WATCH_TOKENS)
FOR_THE_APP: Final = (Operation.ACCEPT_ROUTE_WEBHOOK, Operation.VOUCH_FOR_WEBHOOK)

EVERYTHING: Final = "permit (principal, action, resource);"
NOTHING: Final = "forbid (principal, action, resource);"
BILLING_ALONE: Final = f'permit (principal == Caller::"{BILLING.name}", action, resource in App::"4242");'
# Names that a careless reader of policies takes for syntax.
ODD: Final = (
    'a"b',
    'x" || true //',
    "a\nb",
    "a\\",
    "\x00",
    "\x1b[31m",
    "é",
    "\u202e",
    "🏢",
    "",
    " ",
    "Caller::",
    "a/b",
    "*",
)


def authorizer(policy: str, groups: str = "{}") -> Authorizer:
    """One that decides by this text."""
    return CedarAuthorizer(parse_policy(policy, groups))


def quoted(name: str) -> str:
    """A name as a Cedar string."""
    return '"' + "".join(f"\\u{{{ord(letter):x}}}" for letter in name) + '"'


def given_by(policy: str, caller: Caller, subject: Subject, groups: str = "{}") -> set[Operation]:
    """The operations that a policy gives."""
    decides = authorizer(policy, groups)
    return {operation for operation in Operation if decides.allows(caller, operation, subject)}


def test_schema_knows_each_operation_and_no_other() -> None:
    """One that it lacks would be refused to everybody, whatever the policy."""
    assert given_by(EVERYTHING, BILLING, INSTALL) == set(Operation)


def test_what_no_policy_gives_is_refused() -> None:
    """P6: deny by default, for another caller as for another app."""
    decides = authorizer(BILLING_ALONE)
    assert decides.allows(BILLING, Operation.GET_TOKEN, INSTALL)
    assert not decides.allows(VISITOR, Operation.GET_TOKEN, INSTALL)
    assert not decides.allows(BILLING, Operation.GET_TOKEN, Subject("4343", "1000000", "7"))


def test_forbid_wins_over_every_permit() -> None:
    """An operator's last word must not depend on the order of lines."""
    no_deleting = 'forbid (principal, action == Action::"DeleteInstall", resource);'
    rest = set(Operation) - {Operation.DELETE_INSTALL}
    assert given_by(no_deleting + EVERYTHING, BILLING, INSTALL) == rest
    assert given_by(EVERYTHING + no_deleting, BILLING, INSTALL) == rest


@pytest.mark.parametrize(
    ("action_group", "operations"),
    [
        ("useTokens", TOKENS),
        ("seeInstalls", (Operation.GET_INSTALL, Operation.LIST_INSTALLS)),
        (
            "operateInstalls",
            (
                Operation.GET_INSTALL,
                Operation.LIST_INSTALLS,
                Operation.REFRESH_INSTALL,
                Operation.DELETE_INSTALL,
            ),
        ),
    ],
)
def test_sets_of_operations_hold_what_the_document_says(
    action_group: str, operations: tuple[Operation, ...]
) -> None:
    """Above all, who sees installs gets no tokens."""
    policy = f'permit (principal, action in Action::"{action_group}", resource);'
    assert given_by(policy, BILLING, INSTALL) == set(operations)


def test_unknown_operation_is_refused_and_does_not_raise() -> None:
    """As after an RPC was added and its line in the schema forgotten."""
    unknown = cast("Operation", "GetEverything")
    assert not authorizer(EVERYTHING).allows(BILLING, unknown, INSTALL)


def test_member_of_a_group_gets_what_the_group_gets() -> None:
    """And nobody gets it by a name that only looks like a member's."""
    policy = 'permit (principal in Group::"team", action, resource);'
    decides = authorizer(policy, f'{{"team": ["{BILLING.name}"], "others": ["{VISITOR.name}"]}}')
    assert decides.allows(BILLING, Operation.GET_TOKEN, INSTALL)
    assert not decides.allows(VISITOR, Operation.GET_TOKEN, INSTALL)
    assert not decides.allows(Caller("team", KnownBy.TOKEN), Operation.GET_TOKEN, INSTALL)


def test_caller_may_be_in_several_groups() -> None:
    """Whichever of them the policy speaks of."""
    groups = f'{{"one": ["{BILLING.name}"], "two": ["{BILLING.name}"]}}'
    for group in ("one", "two"):
        decides = authorizer(f'permit (principal in Group::"{group}", action, resource);', groups)
        assert decides.allows(BILLING, Operation.GET_TOKEN, INSTALL)


def test_install_belongs_to_its_company_once_that_is_known() -> None:
    """Before, it belongs to none: not to every one, nor to one called nothing."""
    policy = 'permit (principal, action, resource in Company::"7");'
    assert given_by(policy, BILLING, INSTALL) == set(Operation) - set(FOR_THE_APP)
    assert given_by(policy, BILLING, INSTALL._replace(company_id="8")) == set()
    assert given_by(policy, BILLING, INSTALL._replace(company_id="")) == set()
    nameless = 'permit (principal, action, resource in Company::"");'
    assert given_by(nameless, BILLING, INSTALL._replace(company_id="")) == set()


def test_webhooks_are_the_app_s_whatever_install_they_name() -> None:
    """Nothing in them is believed yet when this is asked."""
    of_the_app = 'permit (principal, action, resource == App::"4242");'
    assert given_by(of_the_app, BILLING, APP) == set(FOR_THE_APP)
    assert given_by(of_the_app, BILLING, INSTALL) == set(FOR_THE_APP)


def test_operation_on_an_install_needs_one() -> None:
    """A service that forgets to name it must not get the app's answer."""
    assert given_by(EVERYTHING, BILLING, APP) == set(FOR_THE_APP)


def test_how_the_caller_is_known_can_be_a_condition() -> None:
    """Vouching for the weight of a certificate."""
    decides = authorizer('permit (principal, action, resource) when { principal.known_by == "certificate" };')
    assert decides.allows(BILLING, Operation.GET_TOKEN, INSTALL)
    assert not decides.allows(BILLING._replace(known_by=KnownBy.TOKEN), Operation.GET_TOKEN, INSTALL)


def test_slash_in_an_id_does_not_make_two_installs_one() -> None:
    """An app called `a/b` is not the app `a`: a policy for an install of one is none for the other's."""
    slash, plain, percent = Subject("a/b", "c"), Subject("a", "b/c"), Subject("a%2Fb", "c")
    for mine, theirs, name in (
        (slash, plain, "a%2Fb/c"),
        (plain, slash, "a/b/c"),
        (slash, percent, "a%2Fb/c"),
        (percent, slash, "a%252Fb/c"),
    ):
        decides = authorizer(f'permit (principal, action, resource == Install::"{name}");')
        assert decides.allows(BILLING, Operation.GET_TOKEN, mine)
        assert not decides.allows(BILLING, Operation.GET_TOKEN, theirs)


@pytest.mark.parametrize("name", ODD)
def test_f47_odd_name_is_itself_and_nobody_else(name: str) -> None:
    """Quotes, newlines and escapes in a name are letters; they do not end it."""
    decides = authorizer(f"permit (principal == Caller::{quoted(name)}, action, resource);")
    for other in {*ODD, BILLING.name}:
        assert decides.allows(Caller(other, KnownBy.TOKEN), Operation.GET_TOKEN, INSTALL) == (other == name)


@pytest.mark.parametrize("odd", ODD[:-3])
def test_f47_odd_ids_are_themselves(odd: str) -> None:
    """The same for the ids of apps, installs and companies."""
    ids = f"resource.plugin_id == {quoted(odd)} && resource.install_id == {quoted(odd)}"
    decides = authorizer(
        f'permit (principal, action == Action::"GetToken", resource in App::{quoted(odd)}) when {{ {ids} }};'
    )
    assert decides.allows(BILLING, Operation.GET_TOKEN, Subject(odd, odd, odd)) == bool(odd)
    assert not decides.allows(BILLING, Operation.GET_TOKEN, INSTALL)


def test_what_can_t_be_decided_is_refused_and_logged_once_a_policy() -> None:
    """Cedar skips a policy that fails: a `forbid` that is skipped would give. And callers can cause it at will."""
    fails = """@id("too-much") forbid (principal, action, resource)
        when { principal.name like "*visitor" && 9223372036854775807 + 1 == 0 };"""
    decides = CedarAuthorizer(parse_policy(EVERYTHING + fails))
    with capture_logs() as logs:
        assert not decides.allows(VISITOR, Operation.GET_TOKEN, INSTALL)
        assert not decides.allows(VISITOR, Operation.GET_INSTALL, INSTALL)
        decides.adopt(parse_policy(EVERYTHING + fails + "\n"))
        assert not decides.allows(VISITOR, Operation.GET_TOKEN, INSTALL)
    assert [line["event"] for line in logs] == ["policy.not_decided"] * 2
    assert logs[0]["errors"][0].startswith("policy too-much failed: integer overflow")
    assert decides.allows(BILLING, Operation.GET_TOKEN, INSTALL)


def test_decision_names_the_policies_that_made_it() -> None:
    """In the order of the file, and by its own names also past the tenth."""
    texts = [f'@id("p{n}") permit (principal == Caller::"{n % 2}", action, resource);' for n in range(12)]
    decision = parse_policy("".join(texts)).decide(Caller("1", KnownBy.TOKEN), Operation.GET_TOKEN, INSTALL)
    assert decision.rules == ("p1", "p3", "p5", "p7", "p9", "p11")


def test_name_that_is_no_text_is_refused() -> None:
    """Half a surrogate pair: Cedar can't even be asked."""
    with capture_logs() as logs:
        assert not authorizer(EVERYTHING).allows(
            Caller("\ud800", KnownBy.TOKEN), Operation.GET_TOKEN, INSTALL
        )
    assert [line["event"] for line in logs] == ["policy.not_decided"]


ANYTHING: Final = st.text(st.characters(exclude_categories=()))
SUBJECTS: Final = st.builds(Subject, ANYTHING, ANYTHING, ANYTHING)
CALLERS: Final = st.builds(Caller, ANYTHING, st.sampled_from(KnownBy))
NOBODY: Final = authorizer(NOTHING)
ONE_APP: Final = authorizer(BILLING_ALONE)


@given(CALLERS, st.sampled_from(Operation), SUBJECTS)
def test_f47_no_name_raises_or_gets_what_nothing_gives(
    caller: Caller, operation: Operation, subject: Subject
) -> None:
    """The fuzz of the policy's inputs: whatever stands in a certificate, a token or a request."""
    assert not NOBODY.allows(caller, operation, subject)
    if caller.name != BILLING.name or subject.plugin_id != "4242":
        assert not ONE_APP.allows(caller, operation, subject)


@given(st.text(), st.text(), st.text(), st.text())
def test_no_two_installs_have_one_name(
    plugin: str, install: str, other_plugin: str, other_install: str
) -> None:
    """The name that a policy gives an install by."""
    if (plugin, install) != (other_plugin, other_install):
        assert install_name(plugin, install) != install_name(other_plugin, other_install)
    if plugin and install:
        assert parse_install_name(install_name(plugin, install)) == (plugin, install)
