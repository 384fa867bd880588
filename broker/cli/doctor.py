"""doctor: what a broker would meet if it started here and now (docs/doctor.md)."""

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from broker.doctor import Line, Report

COLORS: Final = {"OK": typer.colors.GREEN, "WARN": typer.colors.YELLOW, "FAIL": typer.colors.RED}
WEIGHT_WIDTH: Final = 6
CHECK_WIDTH: Final = 15


def doctor(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False
) -> None:
    """Look at what `serve` would start with, and say of each thing whether it is well, or what to do.

    Starts nothing, changes nothing, and sends no credentials but to the database. Exits with 1 if anything is a FAIL.
    """
    from broker.doctor import CHECKS, examine
    from broker.telemetry.logs import configure_logging

    configure_logging("console", "error")
    report = examine(os.environ, CHECKS)
    if as_json:
        typer.echo(json.dumps(_document(report), indent=2))
    else:
        typer.echo("\n".join([*map(_told, report.lines), _summary(report)]))
    if report.left_behind:
        # The interpreter would wait for threads that wait for something which may never come.
        sys.stdout.flush()
        os._exit(report.failed)
    raise typer.Exit(report.failed)


def _told(line: "Line") -> str:
    check, (weight, found, remedy) = line
    head = typer.style(f"{weight:<{WEIGHT_WIDTH}}", fg=COLORS[weight]) + f"{check:<{CHECK_WIDTH}}{found}"
    return head + (f"\n{' ' * (WEIGHT_WIDTH + CHECK_WIDTH)}→ {remedy}" if remedy else "")


def _counts(report: "Report") -> Counter[str]:
    return Counter(str(line.finding.weight) for line in report.lines)


def _summary(report: "Report") -> str:
    counts = _counts(report)
    return "\n" + ", ".join(f"{counts[weight]} {weight}" for weight in COLORS)


def _document(report: "Report") -> dict[str, Any]:
    counts = _counts(report)
    return {
        "failed": report.failed,
        "counts": {weight: counts[weight] for weight in COLORS},
        "lines": [{"check": check, **finding._asdict()} for check, finding in report.lines],
    }
