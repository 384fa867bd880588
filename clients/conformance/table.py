"""The table: scenarios.yaml and adapters.yaml, read and checked."""

from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from clients.conformance.grammar import check_options, check_step

SCENARIOS: Final = Path(__file__).with_name("scenarios.yaml")
ADAPTERS: Final = Path(__file__).with_name("adapters.yaml")

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
    tls: Literal["none", "server", "mutual"] = "none"
    steps: list[Step]

    @field_validator("options")
    @classmethod
    def _knows_its_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        check_options(options)
        return options

    @field_validator("steps")
    @classmethod
    def _says_what_is_understood(cls, steps: list[Step]) -> list[Step]:
        for step in steps:
            check_step(step)
        return steps


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
    scenarios = [Scenario.model_validate(each) for each in _read(SCENARIOS)]
    names = [scenario.name for scenario in scenarios]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{SCENARIOS.name} names twice: {', '.join(sorted(twice))}")
    return scenarios


def read_adapters(path: Path = ADAPTERS) -> list[AdapterEntry]:
    """All of them.

    Raises:
        OSError, ValueError: the list can't be read, or is not as it should be.
    """
    return [AdapterEntry.model_validate(each) for each in _read(path)]


def _read(path: Path) -> list[Any]:
    found: list[Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found
