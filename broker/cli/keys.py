"""keys: the keys that seal stored tokens, on their way from a first one to the next (docs/keys.md)."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli.failure import fail
from broker.cli.keyset_source import KeysetFile, KmsUri, closed, in_database, keyset_of, opened_file
from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret

if TYPE_CHECKING:
    from broker.offline import keysets, resealing

PROGRESS_SECONDS: Final = 2.0
COLUMNS: Final = ("key", "role", "access tokens", "refresh tokens")

keys = typer.Typer(help="The keys that seal stored tokens.", no_args_is_help=True)

RowsPerSecond = Annotated[
    float, typer.Option(min=0.1, help="At most so many installs a second, to leave the database room.")
]
DEFAULT_ROWS_PER_SECOND: Final = 500
BROKEN: Final = "broken"


@keys.command("generate")
def generate_keys(kms_uri: KmsUri = "") -> None:
    """Print a new keyset, for TOKEN_BROKER_KEYSET or the file that TOKEN_BROKER_KEYSET_FILE names."""
    from broker.offline import keysets

    try:
        typer.echo(closed(keysets.generate_keyset(), kms_uri).reveal())
    except ValueError as error:
        fail(f"the keyset {error}")


@keys.command("generate-audit")
def generate_audit_key() -> None:
    """Print a new key for the audit trail, for TOKEN_BROKER_AUDIT_KEY or the file that …_FILE names."""
    from broker.offline import audit_trails

    typer.echo(audit_trails.generate_audit_key().reveal())


@keys.command("rotate")
def rotate_keys(
    keyset_file: Annotated[Path, typer.Argument(metavar="KEYSET_FILE")],
    out: Annotated[Path | None, typer.Option(help="Write a new file, and leave KEYSET_FILE.")] = None,
    kms_uri: KmsUri = "",
    *,
    add: Annotated[
        bool, typer.Option("--add", help="1: add a key, which opens and does not seal yet.")
    ] = False,
    promote: Annotated[bool, typer.Option("--promote", help="2: let the newest key seal.")] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="4: remove the older keys, which seal nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Retire without asking the database.")] = False,
) -> None:
    """Take one step of a rotation. Deploy the file to every replica before the next: add, promote, (reseal), retire."""
    from broker.offline import keysets

    if [add, promote, retire].count(True) != 1:
        raise typer.BadParameter("say one of --add, --promote, --retire")
    keyset = opened_file(keyset_file, kms_uri)
    try:
        if add:
            changed, done = _added(keyset)
        elif promote:
            changed, done = _promoted(keyset)
        else:
            changed, done = _retired(keyset, force=force)
    except keysets.RotationRefused as refused:
        fail(str(refused))
    try:
        keysets.write_keyset_file(out or keyset_file, closed(changed, kms_uri), replace=out is None)
    except ValueError as error:
        fail(f"{out or keyset_file} {error}")
    typer.echo(done, err=True)


@keys.command("status")
def key_status(
    keyset_file: KeysetFile = None,
    kms_uri: KmsUri = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the keys by their ids, and how many stored tokens each has sealed. Never a key."""
    from broker.offline import keysets

    keyset = keyset_of(keyset_file, kms_uri)
    states = {state.key_id: state for state in keysets.keys_of(keyset)}
    counts = in_database(keyset, lambda rows: rows.counts())
    ids: list[int | None] = [*states, *(key_id for key_id in counts if key_id not in states)]
    described = [
        _described(key_id, states.get(key_id) if key_id is not None else None, counts.get(key_id))
        for key_id in ids
    ]
    if as_json:
        typer.echo(json.dumps({"keys": described}))
        return
    table = [COLUMNS, *(_line(key) for key in described)]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@keys.command("reseal")
def reseal(
    keyset_file: KeysetFile = None,
    rows_per_second: RowsPerSecond = DEFAULT_ROWS_PER_SECOND,
    kms_uri: KmsUri = "",
) -> None:
    """Seal with the primary key what another key has sealed. Beside running brokers; run it again if it was ended."""
    keyset = keyset_of(keyset_file, kms_uri)
    progress = in_database(
        keyset,
        lambda rows: rows.reseal(
            rows_per_second=rows_per_second, on_progress=_Said("sealed anew"), on_broken=_say_broken
        ),
    )
    typer.echo(f"{progress.changed} of {progress.seen} installs sealed anew", err=True)
    if progress.broken:
        fail(f"{progress.broken} did not open and were left as they are; docs/keys.md says what to do")


@keys.command("abandon")
def abandon(
    lost: Annotated[
        str,
        typer.Argument(
            metavar="KEY_ID|broken",
            help="A key that is NOT IN THE KEYSET, as `keys status` shows it; or what does not open though its key is there.",
        ),
    ],
    keyset_file: KeysetFile = None,
    rows_per_second: RowsPerSecond = DEFAULT_ROWS_PER_SECOND,
    kms_uri: KmsUri = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Destroy tokens that no longer open. Their installs are minted anew, as fast as the budget allows."""
    from broker.offline import keysets

    if lost != BROKEN and not lost.isdecimal():
        raise typer.BadParameter(f"must be the id of a key, or {BROKEN}")
    key_id = None if lost == BROKEN else int(lost)
    keyset = keyset_of(keyset_file, kms_uri)
    if any(state.key_id == key_id for state in keysets.keys_of(keyset)):
        fail(f"key {key_id} is in the keyset, so nothing is lost that it has sealed")
    what = "does not open with this keyset's keys" if key_id is None else f"key {key_id} has sealed"
    if not yes:
        typer.confirm(f"Destroy every token that {what}?", abort=True, err=True)
    progress = in_database(
        keyset,
        lambda rows: rows.abandon(key_id, rows_per_second=rows_per_second, on_progress=_Said("abandoned")),
    )
    typer.echo(f"the tokens of {progress.changed} installs were destroyed; they are due", err=True)


def _added(keyset: Secret) -> tuple[Secret, str]:
    from broker.offline import keysets

    changed, key_id = keysets.with_new_key(keyset)
    return changed, f"added key {key_id}; deploy the file to every replica, then --promote"


def _promoted(keyset: Secret) -> tuple[Secret, str]:
    from broker.offline import keysets

    changed, key_id = keysets.with_newest_primary(keyset)
    return changed, f"key {key_id} seals from now on; deploy the file to every replica, then `keys reseal`"


def _retired(keyset: Secret, *, force: bool) -> tuple[Secret, str]:
    from broker.offline import keysets

    retired = keysets.retirable(keyset)
    if not force:
        _refuse_if_in_use(retired, keyset)
    named = ", ".join(f"key {key_id}" for key_id in retired)
    return keysets.without(keyset, retired), f"removed {named}; deploy the file to every replica"


class _Said:
    """Progress on stderr, now and then."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next_at = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, progress: "resealing.Progress") -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + PROGRESS_SECONDS
            at = f"{progress.last.plugin_id}/{progress.last.install_id}"
            typer.echo(f"{progress.seen} installs seen, {progress.changed} {self._what}, at {at}", err=True)


def _say_broken(key: InstallKey) -> None:
    typer.echo(f"does not open: install {key.install_id} of app {key.plugin_id}", err=True)


def _refuse_if_in_use(key_ids: list[int], keyset: Secret) -> None:
    counts = in_database(keyset, lambda rows: rows.counts())
    for key_id in key_ids:
        if key_id in counts:
            sealed = counts[key_id]
            fail(
                f"key {key_id} has sealed {sealed.access_tokens} access and {sealed.refresh_tokens} refresh tokens "
                "that are stored: run `token-broker keys reseal` first"
            )


def _described(
    key_id: int | None, state: "keysets.KeyState | None", sealed: "resealing.Sealed | None"
) -> dict[str, Any]:
    return {
        "key_id": key_id,
        "in_keyset": state is not None,
        "primary": state is not None and state.primary,
        "enabled": state is not None and state.enabled,
        "access_tokens": sealed.access_tokens if sealed is not None else 0,
        "refresh_tokens": sealed.refresh_tokens if sealed is not None else 0,
    }


def _line(key: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(key["key_id"] or "none"),
        _role(key),
        str(key["access_tokens"]),
        str(key["refresh_tokens"]),
    )


def _role(key: Mapping[str, Any]) -> str:
    if not key["in_keyset"]:
        return "NOT IN THE KEYSET"
    if not key["enabled"]:
        return "disabled"
    return "primary: seals and opens" if key["primary"] else "opens"
