"""What a check finds: one thing, how much it weighs, and what to do about it."""

from enum import StrEnum
from typing import NamedTuple


class Weight(StrEnum):
    """How much a finding weighs. A broker serves beside a WARN, and does not, or not as it should, beside a FAIL."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


class Finding(NamedTuple):
    """One thing that was found. Attributes: remedy: what to do; empty if it is OK."""

    weight: Weight
    found: str
    remedy: str = ""


class Line(NamedTuple):
    """A finding, with the name of the check that made it."""

    check: str
    finding: Finding


class NotLooked(Exception):
    """A check could not look, because of what another check tells. Its text says of what."""


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(Weight.OK, found)


def warn(found: str, remedy: str) -> Finding:
    """A broker would serve, and somebody should know this."""
    return Finding(Weight.WARN, found, remedy)


def fail(found: str, remedy: str) -> Finding:
    """A broker would not start, or not do what it is for."""
    return Finding(Weight.FAIL, found, remedy)
