"""configuration: what a start would refuse by the settings alone, and what they allow that few want."""

from collections.abc import Iterator

from broker.config import PREFIX, variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn


def look(environment: Environment) -> Iterator[Finding]:
    """A line for each problem."""
    for problem in environment.problems:
        yield fail(problem, "docs/settings.md has every setting, its kind and its default")
    if not environment.problems:
        count = sum(name.startswith(PREFIX) for name in environment.variables)
        yield ok(f"{count} variables with {PREFIX} are set, and a broker takes them all")
    settings = environment.settings
    if settings.insecure_serve_anybody:
        yield warn(
            f"{variable_of('insecure_serve_anybody')}: whoever reaches gRPC gets every token, and nothing need go on record",
            "for development only: docs/secure.md tells how callers prove who they are",
        )
    if settings.trust_vouched_webhooks:
        yield warn(
            f"{variable_of('trust_vouched_webhooks')}: a caller that the policy lets vouch may plant a token",
            "leave it out unless a caller can't pass a webhook's raw body on",
        )
