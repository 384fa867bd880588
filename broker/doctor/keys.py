"""keys: whether the keyset can be used, and which of its keys seals. Never a key."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from stat import S_IROTH
from typing import Final

from broker.adapters import keys as keysets
from broker.config import variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, NotLooked, fail, ok, warn

KEYSET: Final = variable_of("keyset")
KEYSET_FILE: Final = variable_of("keyset_file")


def cipher(environment: Environment) -> keysets.TinkCipher:
    """What the keyset opens with.

    Raises:
        NotLooked: it can't be had, which `look` tells.
    """
    settings = environment.settings
    try:
        return keysets.cipher_of(settings.keyset, settings.keyset_kms_uri)
    except ValueError:
        raise NotLooked("the keyset can't be used; see keys") from None


def look(environment: Environment) -> Iterator[Finding]:
    """Parse it, unwrap it, and name its keys."""
    settings = environment.settings
    try:
        keyset = keysets.opened_keyset(settings.keyset, settings.keyset_kms_uri)
        keys = keysets.keys_of(keyset)
    except ValueError as error:
        yield fail(
            f"{KEYSET} {error}", "docs/keys.md tells how a keyset is made, wrapped and given to a broker"
        )
        return
    wrapped = ", unwrapped by the KMS" if settings.keyset_kms_uri else ""
    yield ok(f"keys in the keyset{wrapped}: {len(keys)}; {_primary(keys)}{_age(environment)}")
    yield from _readers(environment)


def _primary(keys: list[keysets.KeyState]) -> str:
    (primary,) = (key.key_id for key in keys if key.primary)
    newest = keys[-1]
    waits = "" if newest.primary else f"; key {newest.key_id} is newer, and waits for its promotion"
    return f"key {primary} seals{waits}"


def _age(environment: Environment) -> str:
    """Of the file: a Tink keyset does not say when its keys were made."""
    if KEYSET_FILE not in environment.variables:
        return ""
    written = datetime.fromtimestamp(Path(environment.variables[KEYSET_FILE]).stat().st_mtime, UTC)
    return f"; its file was written {(datetime.now(UTC) - written).days} days ago"


def _readers(environment: Environment) -> Iterator[Finding]:
    path = environment.variables.get(KEYSET_FILE)
    if path is not None and Path(path).stat().st_mode & S_IROTH:
        yield warn(f"everybody on this machine may read the file of {KEYSET_FILE}", "chmod o-r that file")
