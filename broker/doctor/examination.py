"""Runs the checks: all at once, each in a thread of its own and within a time of its own.

Threads and not an event loop, because a check is there for the case that something hangs: a resolver, a file system
over the network, a KMS. A thread that hangs is left behind, and asyncio would wait for it at its end.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, Line, NotLooked, Weight, fail, warn


class Check(NamedTuple):
    """One subject.

    Attributes:
        look: yields what it finds, one after the other. May wait, and may raise NotLooked.
        limit: how long it may take.
    """

    name: str
    look: Callable[[Environment], Iterator[Finding]]
    limit: timedelta


@dataclass(frozen=True)
class Report:
    """What came of it. Attributes: left_behind: the checks whose threads still wait for something."""

    lines: Sequence[Line]
    left_behind: Sequence[str]

    @property
    def failed(self) -> bool:
        """Whether a broker should not be started so."""
        return any(line.finding.weight is Weight.FAIL for line in self.lines)


def examine(variables: Mapping[str, str], checks: Sequence[Check]) -> Report:
    """Look at everything. Takes as long as the slowest check, at most its limit."""
    environment = Environment(variables)
    began = time.monotonic()
    looks = [_Look(check, environment) for check in checks]
    lines = [line for look in looks for line in look.lines(began)]
    left_behind = [look.name for look in looks if look.is_left_behind]
    if not left_behind:  # Under whom the connection must not be taken away.
        environment.session.close()
    return Report(lines, left_behind)


class _Look:
    """A check under way. Attributes: is_left_behind: its time was over before it was."""

    def __init__(self, check: Check, environment: Environment) -> None:
        self.name = check.name
        self.is_left_behind = False
        self._check = check
        self._found: list[Finding] = []
        self._end: Future[None] = Future()
        threading.Thread(target=self._run, args=(environment,), name=check.name, daemon=True).start()

    def lines(self, began: float) -> list[Line]:
        """All that it finds until its time is over, and how it ended if it did not end well."""
        left = began + self._check.limit.total_seconds() - time.monotonic()
        try:
            error = self._end.exception(max(left, 0))
        except TimeoutError:
            self.is_left_behind = True
            how = [self._late()]
        else:
            how = [] if error is None else [_ended_by(error)]
        return [Line(self.name, finding) for finding in [*self._found, *how]]

    def _run(self, environment: Environment) -> None:
        try:
            for finding in self._check.look(environment):
                self._found.append(finding)
        except BaseException as error:  # noqa: BLE001 (told by `lines`)
            self._end.set_exception(error)
        else:
            self._end.set_result(None)

    def _late(self) -> Finding:
        return fail(
            f"no answer within {self._check.limit.total_seconds():g} s",
            "find out what it waits for: a name server, a file system, a firewall that drops packets",
        )


def _ended_by(error: BaseException) -> Finding:
    """By its type alone, unless it is ours: an error's text may quote a secret."""
    if isinstance(error, NotLooked):
        return warn(f"not looked at: {error}", "mend that first, and ask again")
    return fail(f"the check broke: {type(error).__name__}", "report it as a bug; the other lines still hold")
