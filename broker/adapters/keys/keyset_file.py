"""Keyset files: written whole or not at all, and for their owner's eyes only."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.domain.secret import Secret

# Far more keys than anybody keeps.
MAX_BYTES: Final = 1 << 20


def read_keyset_file(path: Path) -> Secret:
    """What is written there.

    Raises:
        ValueError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError("is too large for a keyset")
        return Secret(content.decode().strip())
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("can't be read: it is no UTF-8 text") from None


def write_keyset_file(path: Path, keyset: Secret, *, replace: bool) -> None:
    """Put `keyset` there at one stroke, readable by its owner alone. Without `replace` it must be a new file.

    A file that is replaced keeps its owner, so that a broker of another account can still read it.

    Raises:
        ValueError: it can't be written; then nothing has changed.
    """
    place = path.resolve()
    try:
        # mkstemp makes it with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(keyset.reveal() + "\n")
                file.flush()
                if replace and place.exists():
                    _keep_owner(file.fileno(), place.stat())
                os.fsync(file.fileno())
            if replace:
                Path(name).replace(place)
            else:
                place.hardlink_to(name)
            _sync_folder(place.parent)
        finally:
            with suppress(FileNotFoundError):
                Path(name).unlink()
    except OSError as error:
        raise ValueError(f"can't be written: {error.strerror}") from None


def _keep_owner(descriptor: int, before: os.stat_result) -> None:
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
        os.fchown(descriptor, before.st_uid, before.st_gid)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
