"""Every order in which parties may take their steps, found by trying: a small model checker for real code.

A party's steps are those of the fakes (see tests/fakes/steps.py). A run follows a list of choices, one wherever more than
one party could go on, and the first of them where the list has ended. The next run differs in the last choice that had
another option, until none is left: then every order has been seen once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.steps import Steps, turn

# More than any party needs to get from one step to the next.
TURNS_BETWEEN_STEPS = 25


class GatedSteps(Steps):
    """Parks at every step until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: deque[asyncio.Future[None]] = deque()

    @property
    def is_parked(self) -> bool:
        """Whether the party waits before its next step."""
        return bool(self._gates)

    def go_on(self) -> None:
        """Let the party take its step."""
        gate = self._gates.popleft()
        if not gate.done():
            gate.set_result(None)

    async def __call__(self, step: str) -> None:
        """Take a step, when it is this party's turn."""
        self.taken.append(step)
        gate = asyncio.get_running_loop().create_future()
        self._gates.append(gate)
        await gate


@dataclass(slots=True)
class Schedule:
    """Choices to follow, and how many options there were at each."""

    choices: list[int] = field(default_factory=list)
    options: list[int] = field(default_factory=list)

    def choose(self, count: int) -> int:
        """Which of `count` options to take now."""
        position = len(self.options)
        self.options.append(count)
        if position == len(self.choices):
            self.choices.append(0)
        return self.choices[position]

    def next(self) -> "Schedule | None":
        """The next one in order; None after the last."""
        for position in range(len(self.options) - 1, -1, -1):
            if self.choices[position] + 1 < self.options[position]:
                return Schedule([*self.choices[:position], self.choices[position] + 1])
        return None


async def run(
    schedule: Schedule, clock: FakeClock, parties: Sequence[GatedSteps], tasks: Sequence["asyncio.Task[Any]"]
) -> None:
    """Let the parties do their work in the order of `schedule`. Time passes only when nobody can take a step."""
    while not all(task.done() for task in tasks):
        for _ in range(TURNS_BETWEEN_STEPS):
            await turn()
        parked = [party for party in parties if party.is_parked]
        if parked:
            parked[schedule.choose(len(parked)) if len(parked) > 1 else 0].go_on()
        elif clock.has_sleepers and not all(task.done() for task in tasks):
            clock.advance(await clock.parked())


async def every_order(story: Callable[[Schedule], Awaitable[None]]) -> int:
    """Tell `story` under every schedule; how many there were."""
    count, schedule = 0, Schedule()
    following: Schedule | None = schedule
    while following is not None:
        schedule = following
        await story(schedule)
        count += 1
        following = schedule.next()
    return count
