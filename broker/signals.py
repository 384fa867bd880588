"""The signals that ask a process to end."""

import asyncio
import os
import signal
from typing import Final

SECOND_SIGNAL_EXIT: Final = 1


def stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second exits at once."""
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            os._exit(SECOND_SIGNAL_EXIT)
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return asked
