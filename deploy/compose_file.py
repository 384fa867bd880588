"""The compose file as an engine would read it: its variables filled in."""

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from deploy.chart import ROOT

FOLDER: Final = ROOT / "deploy/compose"
COMPOSE_FILE: Final = FOLDER / "compose.yaml"
# ${NAME:-default} and ${NAME:?why it must be set}: the two forms that the file has.
_VARIABLE: Final = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")


class VariableMissing(Exception):
    """A variable without a default is not set. The text is the file's."""


def compose_text(variables: Mapping[str, str]) -> str:
    """The file with `variables` in it.

    Raises:
        VariableMissing.
    """

    def filled(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == "?":
            raise VariableMissing(f"{name}: {text}")
        return text

    return _VARIABLE.sub(filled, COMPOSE_FILE.read_text(encoding="utf-8"))


def services(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services by name. Raises as `compose_text` does."""
    read: dict[str, Any] = yaml.safe_load(compose_text(variables))["services"]
    return read
