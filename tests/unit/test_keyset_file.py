"""Keyset files: whole or not at all, private, and an error that names no key."""

import os
import stat
from pathlib import Path

import pytest

from broker.adapters.keys import generate_keyset, read_keyset_file, write_keyset_file
from broker.domain.secret import Secret


def mode_of(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_keyset_is_written_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    """Whatever the umask says, and whatever the file that it replaces allowed."""
    path, keyset = tmp_path / "keyset.json", generate_keyset()
    path.write_text("an older one")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write_keyset_file(path, keyset, replace=True)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600
    assert read_keyset_file(path).reveal() == keyset.reveal().strip()
    assert list(tmp_path.iterdir()) == [path]


def test_link_to_a_keyset_stays_a_link(tmp_path: Path) -> None:
    """The file that the brokers read is the one that has to change."""
    path, link = tmp_path / "keyset.json", tmp_path / "current"
    path.write_text("an older one")
    link.symlink_to(path)
    write_keyset_file(link, Secret("a newer one"), replace=True)
    assert link.is_symlink()
    assert path.read_text().strip() == "a newer one"


def test_new_file_replaces_none(tmp_path: Path) -> None:
    """What lies there may be the only copy of a key."""
    path = tmp_path / "keyset.json"
    path.write_text("the only copy")
    with pytest.raises(ValueError, match="can't be written: File exists"):
        write_keyset_file(path, generate_keyset(), replace=False)
    assert path.read_text() == "the only copy"
    assert list(tmp_path.iterdir()) == [path]


def test_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """A full disk half-way through a rotation must not cost the keys."""
    path = tmp_path / "keyset.json"
    path.mkdir()  # a folder can't be replaced by a file
    with pytest.raises(ValueError, match="can't be written"):
        write_keyset_file(path, generate_keyset(), replace=True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["missing", "a folder", "no text", "endless"])
def test_f40_file_that_can_not_be_read_says_so(tmp_path: Path, kind: str) -> None:
    """By a word for each; nothing of what is in it."""
    path = tmp_path / "keyset.json"
    match kind:
        case "a folder":
            path.mkdir()
        case "no text":
            path.write_bytes(b"\xff\xfe")
        case "endless":
            path = Path("/dev/zero")
    said = {
        "missing": "No such file",
        "a folder": "Is a directory",
        "no text": "no UTF-8",
        "endless": "too large",
    }[kind]
    with pytest.raises(ValueError, match=said):
        read_keyset_file(path)
