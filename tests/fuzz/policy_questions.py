"""Questions to a policy. The input's lines are a caller, an app, an install and a company.

The policy is one that plain Python can say too: no name may be taken for another, whatever stands in it.
"""

from typing import Final

from broker.adapters.policy.cedar import CedarAuthorizer
from broker.adapters.policy.model import FOR_THE_APP, install_name, parse_install_name
from broker.adapters.policy.reading import parse_policy
from broker.domain.callers import Caller, KnownBy, Operation, Subject

ENDS: Final = frozenset({"nothing", "something"})

GROUPS: Final = '{"billing": ["spiffe://example.org/billing", "invoices"]}'
POLICY: Final = """
permit (principal in Group::"billing", action, resource in App::"4242");
permit (principal == Caller::"badges", action in Action::"useTokens", resource == Install::"4242/1000000");
permit (principal == Caller::"webhooks", action == Action::"AcceptRouteWebhook", resource == App::"4242")
    when { principal.known_by == "token" };
forbid (principal, action, resource in Company::"7");
"""
AUTHORIZER: Final = CedarAuthorizer(parse_policy(POLICY, GROUPS))

# One of each kind.
OPERATIONS: Final = (
    Operation.GET_TOKEN,
    Operation.GET_INSTALL,
    Operation.ACCEPT_ROUTE_WEBHOOK,
    Operation.VOUCH_FOR_WEBHOOK,
)


def try_one(data: bytes) -> str:
    """Ask for each kind of operation, of a caller known either way."""
    # What is no UTF-8 becomes halves of characters, which Cedar can't be asked about.
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    name, plugin_id, install_id, company_id = (lines + [""] * 4)[:4]
    subject = Subject(plugin_id, install_id, company_id)
    _keeps_ids_apart(subject)
    given = False
    for caller in (Caller(name, KnownBy.CERTIFICATE), Caller(name, KnownBy.TOKEN)):
        for operation in OPERATIONS:
            allowed = AUTHORIZER.allows(caller, operation, subject)
            assert allowed == _may(caller, operation, subject), operation
            given |= allowed
    return "something" if given else "nothing"


def _keeps_ids_apart(subject: Subject) -> None:
    plugin_id, install_id, _ = subject
    if plugin_id and install_id:
        assert parse_install_name(install_name(plugin_id, install_id)) == (plugin_id, install_id)


def _may(caller: Caller, operation: Operation, subject: Subject) -> bool:
    """The policy, without Cedar."""
    if subject.plugin_id != "4242":
        return False
    if operation in FOR_THE_APP:
        if (caller, operation) == (("webhooks", KnownBy.TOKEN), Operation.ACCEPT_ROUTE_WEBHOOK):
            return True
        return _is_billing(caller)
    if not subject.install_id or subject.company_id == "7" or not _can_be_said(subject):
        return False
    uses_tokens = operation is Operation.GET_TOKEN and subject.install_id == "1000000"
    return _is_billing(caller) or (caller.name == "badges" and uses_tokens)


def _is_billing(caller: Caller) -> bool:
    return caller.name in {"spiffe://example.org/billing", "invoices"}


def _can_be_said(subject: Subject) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in subject.install_id + subject.company_id)
