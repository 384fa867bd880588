"""What every scenario is given: the options of this run, the cores, a scratch folder, and the report."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import Cores
from bench.report import Report


@dataclass(frozen=True)
class Run:
    """One `python -m bench`."""

    rounds: int
    seconds: float  # measured in each round, for each contestant
    quick: bool  # smaller numbers of everything: to see that it works, not to quote
    cores: Cores
    scratch: Path
    report: Report
    _began: float = field(default_factory=time.monotonic)

    def progress(self, text: str) -> None:
        """A line on stderr, so that long steps show."""
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", file=sys.stderr, flush=True)
