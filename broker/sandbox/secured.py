"""A sandbox that asks who calls: certificates, a policy and a record in a folder, to look at and to change."""

from pathlib import Path
from typing import Final

from broker import offline
from broker.config import PREFIX
from broker.sandbox.certificates import (
    CA_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    Authority,
    of_caller,
    of_this_machine,
    write_secret,
)

SERVICE: Final = "checkout"
OPERATOR: Final = "operator"
STRANGER: Final = "stranger"
POLICY_FILE: Final = "policy.cedar"
AUDIT_LOG: Final = "audit.jsonl"
AUDIT_KEY_FILE: Final = "audit.key"
_CALLERS: Final = (SERVICE, OPERATOR, STRANGER)
_POLICY: Final = f"""\
// {SERVICE} gets the tokens of the app 4242; {OPERATOR} sees to its installs; nobody else gets anything.
@id("{SERVICE}-tokens")
permit (
  principal == Caller::"spiffe://sandbox/{SERVICE}",
  action in Action::"useTokens",
  resource in App::"4242"
);

@id("{OPERATOR}-installs")
permit (
  principal == Caller::"spiffe://sandbox/{OPERATOR}",
  action in Action::"operateInstalls",
  resource in App::"4242"
);
"""


def secure(folder: Path) -> dict[str, str]:
    """Fill `folder`, and return the settings of a broker that uses it. What is there already stays.

    Raises:
        OSError: the folder can't be written.
    """
    server = folder / "broker"
    if not (server / KEY_FILE).exists():
        authority = Authority()
        authority.issue(server, "token-broker", of_this_machine())
        for name in _CALLERS:
            authority.issue(folder / name, name, of_caller(f"spiffe://sandbox/{name}"))
    if not (folder / POLICY_FILE).exists():
        (folder / POLICY_FILE).write_text(_POLICY, encoding="utf-8")
    if not (folder / AUDIT_KEY_FILE).exists():
        write_secret(folder / AUDIT_KEY_FILE, offline.audit_trails.generate_audit_key().reveal().encode())
    return {
        f"{PREFIX}TLS_CERTIFICATE_FILE": str(server / CERTIFICATE_FILE),
        f"{PREFIX}TLS_KEY_FILE": str(server / KEY_FILE),
        f"{PREFIX}TLS_CLIENT_CA_FILE": str(server / CA_FILE),
        f"{PREFIX}POLICY_FILE": str(folder / POLICY_FILE),
        f"{PREFIX}AUDIT_LOG": str(folder / AUDIT_LOG),
        f"{PREFIX}AUDIT_KEY_FILE": str(folder / AUDIT_KEY_FILE),
    }
