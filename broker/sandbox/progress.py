"""Shows each step as it happens, and remembers how long it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

NAME_WIDTH: Final = 10


class Step:
    """A step under way; `says` tells what came of it."""

    def __init__(self) -> None:
        self.text = "done"

    def says(self, text: str) -> None:
        """What to show when the step has ended."""
        self.text = text


class Progress:
    """Lines on a stream, one a step."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._started = time.monotonic()
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step, and show its line when it has ended well."""
        step, started = Step(), time.monotonic()
        yield step
        self.timings_ms[name] = _milliseconds_since(started)
        self.line(f"  {name:<{NAME_WIDTH}} {step.text}  [{self.timings_ms[name]:,.0f} ms]")

    def line(self, text: str = "") -> None:
        """Show a line."""
        print(text, file=self._stream, flush=True)

    def total(self) -> None:
        """Note how long everything took so far."""
        self.timings_ms["total"] = _milliseconds_since(self._started)


def _milliseconds_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)
