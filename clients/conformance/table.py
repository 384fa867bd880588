"""The table: scenarios.yaml and adapters.yaml, read and checked."""

from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field

HERE: Final = Path(__file__).parent

Step = dict[str, Any]


class Scenario(BaseModel):
    """A line of the table.

    Attributes:
        installs: the installs that Envoy has before the first step, by the names that the steps use.
        options: of the client that is opened before the first step, as in `open`.
        opens: False: the client that can't be opened; its error is CONFIGURATION.
        gates: how many replicas there are.
        tls: what the gates ask for: none, server (a certificate of theirs), mutual (one of the client's, too).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    why: str
    installs: list[str] = Field(default_factory=lambda: ["a"])
    options: dict[str, Any] = Field(default_factory=dict)
    opens: bool = True
    gates: int = 1
    tls: str = "none"
    steps: list[Step]


class AdapterEntry(BaseModel):
    """A client under test.

    Attributes:
        build: shell commands that make it, from the repository's root; once.
        run: what starts its adapter there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: str
    build: str = ""
    run: list[str]


def read_scenarios() -> list[Scenario]:
    """All of them.

    Raises:
        ValueError: the table is not as it should be.
    """
    scenarios = [Scenario.model_validate(each) for each in _read("scenarios.yaml")]
    names = [scenario.name for scenario in scenarios]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"scenarios.yaml names twice: {', '.join(sorted(twice))}")
    return scenarios


def read_adapters() -> list[AdapterEntry]:
    """All of them."""
    return [AdapterEntry.model_validate(each) for each in _read("adapters.yaml")]


def _read(name: str) -> list[Any]:
    found: list[Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    return found
