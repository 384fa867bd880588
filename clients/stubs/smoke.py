"""One recipe, followed as docs/stubs.md prints it, in a copy of the program's folder."""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients.stubs.recipes import Recipe
from clients.stubs.sandbox_broker import SandboxBroker

BUILD_SECONDS: Final = 900
RUN_SECONDS: Final = 60
UNKNOWN_INSTALL: Final = "404"
UNKNOWN_REASON: Final = "INSTALL_NOT_FOUND"
LOG_LINES_SHOWN: Final = 40


class SmokeFailedError(Exception):
    """The recipe does not do what the document says."""


@dataclass(frozen=True)
class Read:
    """What the program printed of a token."""

    token_type: str
    generation: int
    seconds_left: int


@dataclass(frozen=True)
class Smoke:
    """One recipe's test.

    Attributes:
        folder: a copy of the program's folder, and all that is made.
        environment: beside PATH and the like, what the recipes speak of: API and GOOGLEAPIS.
    """

    recipe: Recipe
    folder: Path
    environment: Mapping[str, str]

    def build(self) -> None:
        """Lay out the program and build it with its stubs.

        Raises:
            SmokeFailedError: with the end of what the commands printed.
        """
        # The times stay: what a build made the last time is still good.
        shutil.copytree(self.recipe.source, self.folder, dirs_exist_ok=True)
        for commands in filter(None, (self.recipe.stand_in, self.recipe.build)):
            ended = self._shell(commands, BUILD_SECONDS)
            if ended.returncode:
                raise SmokeFailedError(_end_of(ended.stdout + ended.stderr))

    def read(self, broker: SandboxBroker) -> Read:
        """A token, by the program.

        Raises:
            SmokeFailedError: it read none, or another than the broker has.
        """
        ended = self._run(broker.target, broker.install)
        words = ended.stdout.split()
        try:
            token = Read(words[0], int(words[1]), int(words[2]))
        except (IndexError, ValueError):
            raise SmokeFailedError(_end_of(ended.stdout + ended.stderr)) from None
        told = (broker.token_type, broker.generation)
        if (token.token_type, token.generation) != told or not self._lives(token, broker):
            raise SmokeFailedError(f"it read {token}, and the broker has {broker}")
        return token

    def refuse(self, broker: SandboxBroker) -> None:
        """The reason of an error, by the program.

        Raises:
            SmokeFailedError: it read a token, or did not tell the broker's reason.
        """
        ended = self._run(broker.target, UNKNOWN_INSTALL)
        if ended.stdout or not ended.returncode or UNKNOWN_REASON not in ended.stderr.split():
            raise SmokeFailedError(_end_of(ended.stdout + ended.stderr))

    @staticmethod
    def _lives(token: Read, broker: SandboxBroker) -> bool:
        return 0 < token.seconds_left <= broker.expires_in_seconds

    def _run(self, target: str, install: str) -> subprocess.CompletedProcess[str]:
        return self._shell(f"{self.recipe.run} {shlex.join([target, install])}", RUN_SECONDS)

    def _shell(self, commands: str, limit_seconds: float) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(  # noqa: S603 - the recipes' own commands
            ["/bin/sh", "-euc", commands],
            cwd=self.folder,
            env={**os.environ, **self.environment, **self.recipe.settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=limit_seconds)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise SmokeFailedError(f"not done after {limit_seconds:g} s: {commands}") from error
                raise
        return subprocess.CompletedProcess(commands, process.returncode, out, err)


def _end_of(text: str) -> str:
    return "\n".join(text.splitlines()[-LOG_LINES_SHOWN:])
