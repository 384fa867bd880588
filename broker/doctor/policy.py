"""policy: whether the files can be used, and whether they give anybody anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cedarpy import pst

from broker.adapters.policy import Policy, PolicyBroken, read_policy
from broker.config import variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn

_MEND: Final = "mend it (docs/policy.md); `token-broker policy check` says the same of a file"
_WHO_CAN: Final = "if that is not meant, add a permit; `token-broker policy who-can` tells who may do what"


def look(environment: Environment) -> Iterator[Finding]:
    """Read them as a broker does at its start."""
    settings = environment.settings
    setting = variable_of("policy_file")
    if settings.policy_file is None:
        anybody = settings.insecure_serve_anybody
        yield ok(f"{setting} is not set: {'anybody may do everything' if anybody else 'see configuration'}")
        return
    groups = Path(settings.policy_groups_file) if settings.policy_groups_file else None
    try:
        policy = read_policy(Path(settings.policy_file), groups)
    except PolicyBroken as error:
        for problem in error.problems:
            yield fail(problem, _MEND)
        return
    permits = sum(rule.effect == "permit" for rule in policy.rules.values())
    text = (
        f"version {policy.version}: {permits} permit, {len(policy.rules) - permits} forbid, "
        f"{len(policy.groups.members)} groups"
    )
    yield ok(text) if _gives(policy) else warn(f"{text}; it gives nobody anything", _WHO_CAN)


def _gives(policy: Policy) -> bool:
    """Whether somebody may do something, as far as the scopes tell; conditions are not looked into."""
    rules = policy.rules.values()
    if any(_forbids_all(rule) for rule in rules):
        return False
    return any(rule.effect == "permit" and _has_principal(rule, policy) for rule in rules)


def _forbids_all(rule: pst.Template) -> bool:
    scopes = (rule.principal, rule.action, rule.resource)
    return (
        rule.effect == "forbid"
        and not rule.clauses
        and all(isinstance(each, pst.ScopeAny) for each in scopes)
    )


def _has_principal(rule: pst.Template, policy: Policy) -> bool:
    """Whether its scope lets in somebody: a group without members does not."""
    scope = rule.principal
    if isinstance(scope, pst.ScopeIn | pst.ScopeIsIn) and isinstance(scope.entity, pst.EntityUid):
        return bool(policy.groups.members.get(scope.entity.id, True))
    return True
