"""How a command ends that can't do what it was asked."""

import sys
from typing import NoReturn

import typer


def fail(*lines: str) -> NoReturn:
    """Say on stderr what is wrong, and exit with 1."""
    print(*lines, sep="\n  ", file=sys.stderr)  # noqa: T201 (this is the command line)
    raise typer.Exit(1)
