"""A program that tries to look into another process in each way that Linux has, and prints the ways that are open.

Run it as the user, and with the rights, of that process: `python onlooker.py PID`.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

# linux/ptrace.h. To seize, as a debugger does, does not stop the process; it is let go when this program ends.
PTRACE_SEIZE: Final = 0x4206
ENVIRONMENT: Final = "environ"
_FILES: Final = (ENVIRONMENT, "maps", "mem")


def open_ways(pid: int) -> list[str]:
    """The ways that are open."""
    return [*(name for name in _FILES if _opens(pid, name)), *(["ptrace"] if _can_be_seized(pid) else [])]


def _opens(pid: int, name: str) -> bool:
    def reads() -> None:
        # To read memory at 0 is an error of another kind: what counts is whether it opens.
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))

    return _is_allowed(reads)


def _can_be_seized(pid: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)

    def seizes() -> None:
        if libc.ptrace(PTRACE_SEIZE, pid, None, None):
            raise OSError(ctypes.get_errno(), "ptrace")

    return _is_allowed(seizes)


def _is_allowed(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.stdout.write(" ".join(open_ways(int(sys.argv[1]))))
