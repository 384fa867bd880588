"""Stands between Postgres and the process that wants it; when that process ends, ends Postgres and cleans up.

Run as a script, on the standard library alone. Its standard input is a pipe whose other end only the parent
holds. The parent writes one line, the plan; any later byte, or the end of file, means stop. The system closes
a pipe at every death, SIGKILL's too, so no way of ending the parent leaves a server or a folder behind.

The kernel's parent-death signal alone would not do: it is sent when the *thread* that started the child ends
(asyncio.to_thread's may), only Linux has it, and it removes no folder. It serves here for the one death that
the pipe does not cover: this process's own. This process has one thread, and asks for the signal after the
change of user, which would cancel it.

It leads a session of its own, so a Ctrl-C in the terminal does not reach Postgres, and the parent can finish
its work with the database first. Signals sent to this process itself are let pass for the same reason.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
STANDARD_OUTPUT: Final = 1
WAKE_BYTES: Final = 4096
# "Fast" shutdown, then "immediate", then none (Postgres' manual, "Shutting Down the Server").
ENDINGS: Final = (
    (signal.SIGINT, 30),
    (signal.SIGQUIT, 10),
    (signal.SIGKILL, 10),
)  # seconds to wait after each


def main() -> None:
    """Follow the parent's plan: its commands in turn, each only if the one before it succeeded."""
    try:
        wake = wake_on_signals()
        with open(0, "rb", buffering=0) as orders:  # unbuffered, so that select() sees all that is left
            plan = json.loads(orders.readline() or "{}")
            for command in plan.get("commands", ()):
                if run(command, plan, orders.fileno(), wake) != 0:
                    break
            os.close(STANDARD_OUTPUT)  # tells the parent that Postgres has ended
            orders.read(1)  # until the parent has read the log
    finally:
        shutil.rmtree(sys.argv[1], ignore_errors=True)


def wake_on_signals() -> int:
    """A descriptor that becomes readable at every signal; SIGCHLD is the one that matters."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN: Postgres would inherit that
    return reader


def run(command: list[str], plan: dict[str, Any], orders: int, wake: int) -> int:
    """Run one command to its end, or until told to stop. Returns its exit code."""
    child = subprocess.Popen(  # nosec B603  # from supervision.py, which started us
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # the log
        cwd="/",
        env=plan["environment"],
        user=plan["uid"],
        group=plan["gid"],
        extra_groups=None if plan["uid"] is None else [],
        start_new_session=True,
        preexec_fn=die_with_parent(),  # noqa: PLW1509  # safe: this process has no second thread
    )
    while child.poll() is None:
        ready, _, _ = select.select([orders, wake], [], [])
        if orders in ready:
            stop(child)
        else:
            os.read(wake, WAKE_BYTES)
    return child.returncode


def die_with_parent() -> Any:
    """What the child calls before it becomes Postgres; None where the kernel has no such signal."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and the processes of its group, ever less politely."""
    for number, patience_seconds in ENDINGS:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_seconds)
            return


if __name__ == "__main__":
    main()
