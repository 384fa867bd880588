"""The report of a run: `build/bench.json` for machines, a few lines on stdout for people."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

SCHEMA_VERSION = 1


class Report:
    """Collects what the scenarios found. Written anew after each, so that an interrupted run keeps what it has."""

    def __init__(self, path: Path, *, machine: dict[str, object], options: dict[str, object]) -> None:
        self._path = path
        self._failures: dict[str, str] = {}
        self._scenarios: dict[str, dict[str, object]] = {}
        self._content = {
            "schema_version": SCHEMA_VERSION,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine,
            "options": options,
            "scenarios": self._scenarios,
            "failures": self._failures,
        }

    @property
    def failed(self) -> bool:
        """Whether any scenario did."""
        return bool(self._failures)

    def add(self, scenario: str, facts: dict[str, object], lines: Sequence[str]) -> None:
        """Takes a scenario's facts and prints its lines."""
        self._scenarios[scenario] = facts
        print(f"\n{scenario}\n" + "\n".join(f"  {line}" for line in lines), flush=True)
        self._write()

    def fail(self, scenario: str, reason: str) -> None:
        """Notes that a scenario gave no figures."""
        self._failures[scenario] = reason
        print(f"\n{scenario}\n  FAILED: {reason}", flush=True)
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._content, indent=2) + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if position == 0 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]
