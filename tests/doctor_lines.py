"""What the doctor says of one subject."""

from collections.abc import Mapping
from typing import Final

from broker import offline
from broker.config import PREFIX
from broker.doctor import CHECKS, Finding, Weight, examine

OK: Final = Weight.OK
WARN: Final = Weight.WARN
FAIL: Final = Weight.FAIL
KEYSET: Final = offline.keysets.generate_keyset().reveal()


def settings(**values: str) -> dict[str, str]:
    """The environment of a broker that would start, as far as its settings tell. "" leaves one out."""
    good = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "KEYSET": KEYSET,
        "ENVOY_CLIENT_ID": "client-1",
        "ENVOY_CLIENT_SECRET": "make-believe",
        "INSECURE_SERVE_ANYBODY": "true",
        "GRPC_ADDRESS": "127.0.0.1:0",
        "HTTP_ADDRESS": "127.0.0.1:0",
    }
    return {f"{PREFIX}{name}": value for name, value in (good | values).items() if value}


def findings(check: str, variables: Mapping[str, str]) -> list[Finding]:
    """All that one check finds."""
    report = examine(variables, [each for each in CHECKS if each.name == check])
    assert report.left_behind == []
    return [line.finding for line in report.lines]


def only(check: str, variables: Mapping[str, str], containing: str = "") -> Finding:
    """The only thing that one check finds, or the only one that says so."""
    found = findings(check, variables)
    matching = [each for each in found if containing in each.found]
    assert len(matching) == 1, found
    assert (matching[0].remedy == "") == (matching[0].weight is OK)
    return matching[0]


def weights(check: str, variables: Mapping[str, str]) -> set[Weight]:
    """How much what one check finds weighs."""
    return {finding.weight for finding in findings(check, variables)}
