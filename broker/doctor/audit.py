"""audit: whether the record can be written where it shall go. Nothing is written, nor opened: a reader would notice."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broker.adapters.audit import AuditKeys
from broker.adapters.audit.sinks import STDOUT
from broker.config import variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn

GIBIBYTE: Final = 1024**3
# About three million lines; at 1,000 tokens a second an hour's warning.
LITTLE_ROOM: Final = GIBIBYTE
# Less, and the start is followed by the end.
NO_ROOM: Final = 16 * 1024**2
_NOTHING_HANDED_OUT: Final = "what can't be recorded is not handed out (docs/audit.md)"


def look(environment: Environment) -> Iterator[Finding]:
    """The key, and each of the places."""
    settings = environment.settings
    places = {name: getattr(settings, name) for name in ("audit_log", "audit_second_log")}
    if not any(places.values()):
        yield ok(f"{variable_of('audit_log')} is not set: no record is kept")
        return
    if settings.audit_key is not None:
        try:
            keys = AuditKeys(settings.audit_key)
        except ValueError as error:
            yield fail(
                f"{variable_of('audit_key')} {error}", "keep the one that the trail so far was signed with"
            )
        else:
            yield ok(f"checkpoints are signed by the key {keys.public_key_id}")
    for name, place in places.items():
        if place is not None:
            yield _destination(variable_of(name), place)


def _destination(setting: str, place: str) -> Finding:
    if place == STDOUT:
        return ok(f"{setting}: to stdout; whoever reads that must keep up")
    path = Path(place)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return _new_file(setting, path.parent)
    except OSError as error:
        return fail(f"{setting}: {error.strerror}", _NOTHING_HANDED_OUT)
    if stat.S_ISDIR(mode):
        return fail(f"{setting} is a folder", "name a file in it")
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return fail(f"{setting} can't be written by this account", _NOTHING_HANDED_OUT)
    if not stat.S_ISREG(mode):
        return ok(f"{setting} can be written; it is no regular file, and whoever reads it must keep up")
    return _room(setting, path)


def _new_file(setting: str, folder: Path) -> Finding:
    if not folder.is_dir():
        return fail(
            f"{setting}: the folder that it names is not there", "make it, for the broker's account to write"
        )
    wanted = os.W_OK | os.X_OK
    if not os.access(folder, wanted, effective_ids=os.access in os.supports_effective_ids):
        return fail(f"{setting}: no file can be made in its folder by this account", _NOTHING_HANDED_OUT)
    return _room(setting, folder)


def _room(setting: str, on: Path) -> Finding:
    disk = os.statvfs(on)
    free_bytes = disk.f_bavail * disk.f_frsize
    text = f"{setting} can be written; {free_bytes / GIBIBYTE:,.1f} GiB are free there"
    no_names_left = bool(disk.f_files) and not disk.f_favail
    if free_bytes < NO_ROOM or no_names_left:
        return fail(f"{setting}: its disk is full", "make room, or rotate the trail away (docs/audit.md)")
    if free_bytes < LITTLE_ROOM:
        return warn(text, "make room, or rotate the trail away (docs/audit.md)")
    return ok(text)
