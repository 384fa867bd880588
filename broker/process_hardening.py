"""Closes the process to its own user: no core dump, no debugger, no look into its memory or environment.

Tokens and the client secret lie in a broker's memory as long as it runs; what that means is told in docs/secrets.md.
"""

import ctypes
import os
import resource
import sys
from typing import Final

# linux/prctl.h. Cleared by this, set anew by each execve: a broker starts no other program.
PR_SET_DUMPABLE: Final = 4
NOT_DUMPABLE: Final = 0
NO_CORE: Final = (0, 0)


def close_process_to_onlookers() -> None:
    """Take from all but root the right to read or trace this process, and from the system its core dump.

    On Linux /proc/PID becomes root's; elsewhere only the core dump is taken away. There is no setting for less.

    Raises:
        OSError: the system refuses, and what was to be closed may be open.
    """
    resource.setrlimit(resource.RLIMIT_CORE, NO_CORE)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_DUMPABLE, *map(ctypes.c_ulong, (NOT_DUMPABLE, 0, 0, 0))):
            number = ctypes.get_errno()
            raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")
