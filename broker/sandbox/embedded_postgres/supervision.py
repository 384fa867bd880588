"""The parent's end of the supervisor: start it, give it the plan, notice the end, send it away."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from broker.sandbox.embedded_postgres import supervisor
from broker.sandbox.embedded_postgres.account import Account
from broker.sandbox.embedded_postgres.programs import EmbeddedPostgresError

STOP_DEADLINE_SECONDS: Final = 60  # longer than the supervisor's own patience with Postgres


class Supervision:
    """A running supervisor, which removes `folder` when this process lets go of it, or ends.

    Args:
        folder: the temporary folder.
        log: the file that gets what the supervised commands print.
        inherit: descriptors to keep open as long as the supervisor lives.
    """

    def __init__(self, folder: Path, log: Path, *, inherit: Sequence[int]) -> None:
        orders, self._orders = os.pipe()
        self._end, end = os.pipe()
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(  # nosec B603  # our own program
                    [sys.executable, "-I", supervisor.__file__, folder],
                    stdin=orders,
                    stdout=end,
                    stderr=output,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=inherit,
                )
        except BaseException:
            self._let_go()
            raise
        finally:
            os.close(orders)
            os.close(end)

    def run(
        self, commands: Sequence[Sequence[str]], *, environment: Mapping[str, str], account: Account | None
    ) -> None:
        """Have the commands run in turn, each only if the one before it succeeded."""
        plan = {
            "commands": commands,
            "environment": environment,
            "uid": account.uid if account else None,
            "gid": account.gid if account else None,
        }
        os.write(self._orders, json.dumps(plan).encode() + b"\n")

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the commands, at most so long; whether it came."""
        ended, _, _ = select.select([self._end], [], [], seconds)
        return bool(ended)

    def dismiss(self) -> None:
        """Have what runs stopped and the folder removed.

        Raises:
            EmbeddedPostgresError: that took too long; the supervisor has been killed.
        """
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, b"\n")  # a process forked from this one may hold the pipe open
        self._let_go()
        try:
            self._process.wait(STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired as late:
            self._process.kill()
            self._process.wait()
            raise EmbeddedPostgresError(f"Postgres did not stop in {STOP_DEADLINE_SECONDS} s.") from late

    def _let_go(self) -> None:
        os.close(self._orders)
        os.close(self._end)
