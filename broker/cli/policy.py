"""policy: what a policy says, by its files alone; no broker is asked (docs/policy.md)."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.failure import fail
from broker.domain.callers import Caller, KnownBy, Operation, Subject

if TYPE_CHECKING:
    from broker.offline import policies

policy = typer.Typer(help="The policy: who may do what, by its files.", no_args_is_help=True)

PolicyPath = Annotated[
    Path, typer.Option("--policy", envvar="TOKEN_BROKER_POLICY_FILE", help="The policy file.")
]
GroupsPath = Annotated[
    Path | None, typer.Option("--groups", envvar="TOKEN_BROKER_POLICY_GROUPS_FILE", help="The groups file.")
]
InstallName = Annotated[
    str, typer.Option("--install", metavar="PLUGIN/INSTALL", help="The install, such as 4242/1000000.")
]
Company = Annotated[str, typer.Option("--company", help="The company that the install belongs to.")]


@policy.command("check")
def check_policy(
    policy_file: Annotated[Path, typer.Argument(metavar="FILE")],
    groups_file: Annotated[Path | None, typer.Option("--groups", help="The groups file.")] = None,
) -> None:
    """Say whether a broker would take these files, and what is wrong with them if not."""
    read = _read(policy_file, groups_file)
    permits = sum(rule.effect == "permit" for rule in read.rules.values())
    counts = f"{permits} permit, {len(read.rules) - permits} forbid, {len(read.groups.members)} groups"
    typer.echo(f"{counts}; version {read.version}")


@policy.command("explain")
def explain(
    caller: Annotated[str, typer.Option(help="The caller's name: a SPIFFE id, a DNS name or a subject.")],
    operation: Annotated[Operation, typer.Option(help="What it would do.")],
    install: InstallName,
    policy_file: PolicyPath,
    groups_file: GroupsPath = None,
    company: Company = "",
    known_by: Annotated[KnownBy, typer.Option(help="How the caller is known.")] = KnownBy.CERTIFICATE,
) -> None:
    """Say whether a caller may do something, and which policies decide."""
    subject = _subject(install, company)
    read = _read(policy_file, groups_file)
    try:
        decision = read.decide(Caller(caller, known_by), operation, subject)
    except ValueError:
        raise typer.BadParameter("a name must be UTF-8") from None
    typer.echo(_told(decision))


@policy.command("who-can")
def who_can(
    install: InstallName,
    policy_file: PolicyPath,
    groups_file: GroupsPath = None,
    company: Company = "",
    operation: Annotated[Operation | None, typer.Option(help="Only this; each without.")] = None,
) -> None:
    """Say who may do what to an install: of the callers that the files name, and by which policies others may."""
    subject = _subject(install, company)
    read = _read(policy_file, groups_file)
    for each in [operation] if operation else Operation:
        typer.echo("\n  ".join([_title(each, subject), *_lines(read, each, subject)]))


def _read(policy_file: Path, groups_file: Path | None) -> "policies.Policy":
    from broker.offline import policies

    try:
        return policies.read_policy(policy_file, groups_file)
    except policies.PolicyBroken as error:
        fail("this policy can't be used:", *error.problems)


def _subject(install: str, company: str) -> Subject:
    from broker.offline import policies

    try:
        return Subject(*policies.parse_install_name(install), company)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--install") from None


def _told(decision: "policies.Decision") -> str:
    verdict = "allowed" if decision.allowed else "denied"
    if decision.errors:
        return f"{verdict}: it can't be decided: {'; '.join(decision.errors)}"
    return f"{verdict} by {_names(decision.rules)}" if decision.rules else f"{verdict}: no policy gives it"


def _title(operation: Operation, subject: Subject) -> str:
    from broker.offline import policies

    return (
        f"{operation} (for the app {_shown(subject.plugin_id)}):"
        if operation in policies.FOR_THE_APP
        else f"{operation}:"
    )


def _lines(read: "policies.Policy", operation: Operation, subject: Subject) -> Iterator[str]:
    from broker.offline import policies

    found = policies.who_can(read, operation, subject)
    if not (found.callers or found.open_rules):
        yield "nobody"
    for caller in found.callers:
        condition = f", if known by {caller.known_by[0]}" if len(caller.known_by) == 1 else ""
        yield f"{_shown(caller.name)}{condition}, by {_names(caller.rules)}"
    for group in found.groups:
        yield f"that is every member of group {_shown(group)}"
    for rule in found.open_rules:
        yield f"and any caller that policy {_shown(rule)} matches"


def _names(rules: tuple[str, ...]) -> str:
    return ", ".join(map(_shown, rules))


def _shown(name: str) -> str:
    """A name from the files, so that it can't play tricks on a terminal."""
    from broker.offline import policies

    return policies.one_line(name)
