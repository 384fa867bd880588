"""The policy: who may do what, said in Cedar and kept in files (docs/policy.md)."""

from broker.adapters.policy.model import FOR_THE_APP, parse_install_name
from broker.adapters.policy.policy import Decision, Policy, one_line
from broker.adapters.policy.policy_file import PolicyFile
from broker.adapters.policy.reading import PolicyBroken, read_policy
from broker.adapters.policy.who_can import WhoCan, who_can

__all__ = [
    "FOR_THE_APP",
    "Decision",
    "Policy",
    "PolicyBroken",
    "PolicyFile",
    "WhoCan",
    "one_line",
    "parse_install_name",
    "read_policy",
    "who_can",
]
