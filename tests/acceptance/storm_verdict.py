"""What a kill storm has shown, and which promises that breaks."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.acceptance.callers import Heard
from tests.acceptance.scene import REFRESHED

TOKEN_MARKS: Final = ("simulated-at-", "simulated-rt-", "make-believe-secret")
# Errors in the log that are the storm's own, and expected.
EXPECTED_ERRORS: Final = frozenset({"provider.circuit_opened"})
_GOOD: Final = " ".join(REFRESHED)


@dataclass(frozen=True)
class Verdict:
    """The counts of a storm.

    Attributes:
        done: what harm was done, and how often.
        requests: what Envoy was asked until the quiet time began, by grant and outcome.
        presented_wrongly: the ledger's entries that break P1.
        unsettled: installs that were not well long after the storm.
        quiet: what callers met when all was well again; neither a failure nor a mint is excused.
        idle: installs that were not refreshed in the quiet time.
        wrong_in_logs: errors that no fault excuses, and tokens.
    """

    seed: int
    seconds: float
    done: Mapping[str, int]
    requests: Mapping[str, int]
    storm: Heard
    settled_after_seconds: float
    unsettled: list[str]
    quiet: Heard
    quiet_requests: Mapping[str, int]
    idle: list[str]
    presented_wrongly: list[dict[str, Any]]
    wrong_in_logs: list[str]

    @property
    def broken(self) -> list[str]:
        """Every broken promise, one line each; none if all is well."""
        amiss = [f"{count} of {name}" for name, count in self.quiet_requests.items() if name != _GOOD]
        failed = [f"{count} of {code}" for code, count in self.quiet.failures.items()]
        return [
            *(f"P1: {entry}" for entry in self.presented_wrongly),
            *(f"P2: not well after the storm: {install}" for install in self.unsettled),
            *(f"P2: not refreshed in the quiet time: {install}" for install in self.idle),
            *(f"P2: in the quiet time: {line}" for line in (*amiss, *failed)),
            *(f"P3: {line}" for line in (*self.storm.broken, *self.quiet.broken)),
            *(f"in a log: {line}" for line in self.wrong_in_logs),
        ]

    def as_json(self) -> str:
        """The same for a program."""
        # Not dataclasses.asdict: of a Counter it makes one that counts the pairs.
        return json.dumps(vars(self) | {"broken": self.broken}, default=vars, indent=2)

    def table(self) -> str:
        """The counts, and what is broken, for a person."""
        lines = [
            f"{self.seconds:g} s, seed {self.seed}; all was well {self.settled_after_seconds:g} s after it"
        ]
        for title, counts in (
            ("done", self.done),
            ("asked of Envoy", self.requests),
            ("failed calls", self.storm.failures),
            ("asked of Envoy in the quiet time", self.quiet_requests),
        ):
            lines.append(f"{title}:")
            lines += [f"  {count:>8}  {name}" for name, count in counts.items()]
        lines.append(f"tokens handed out: {self.storm.tokens}, and {self.quiet.tokens} in the quiet time")
        lines.append(f"reported as rejected: {self.storm.reported}")
        lines += [f"BROKEN  {line}" for line in self.broken] or ["no promise broken"]
        return "\n".join(lines)


def requests_by_outcome(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many requests of each grant had each outcome."""
    counts = Counter(f"{entry['grant_type']} {entry['outcome']}" for entry in entries)
    return dict(sorted(counts.items()))


def wrong_in_log(output: str) -> Iterator[str]:
    """What must not stand in the log of a replica, whatever happens to it."""
    for line in output.splitlines():
        if any(mark in line for mark in TOKEN_MARKS):
            yield "a token or a secret"
            continue
        try:
            event = json.loads(line)
        except ValueError:
            yield line
            continue
        if event["level"] in {"error", "critical"} and event["event"] not in EXPECTED_ERRORS:
            yield line
