"""`token-broker serve` that measures how late its event loop is: `python -m bench.serve_with_lag`.

A thread hands the loop a stopwatch every few milliseconds; the loop's own timers would begin to count where a long
callback ends. At each SIGUSR1 what was seen since the last one is printed, as a line of JSON on stdout.
"""

import asyncio
import json
import os
import signal
import threading
import time
from statistics import quantiles

import uvloop

from broker import app, serving

INTERVAL_SECONDS = 0.005
MILLISECONDS = 1000


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    late: list[float] = []
    over = threading.Event()

    def stop_watch(began: float) -> None:
        late.append((time.perf_counter() - began) * MILLISECONDS)

    def hand_over() -> None:
        while not over.wait(INTERVAL_SECONDS):
            loop.call_soon_threadsafe(stop_watch, time.perf_counter())

    def tell() -> None:
        seen = [0.0, 0.0, *late]  # it may have been asked a moment ago
        hundredths = quantiles(seen, n=100, method="inclusive")
        facts = {"p50_ms": hundredths[49], "p99_ms": hundredths[98], "max_ms": max(seen)}
        print(json.dumps({name: round(its, 3) for name, its in facts.items()}), flush=True)
        late.clear()

    loop.add_signal_handler(signal.SIGUSR1, tell)
    thread = threading.Thread(target=hand_over)
    thread.start()
    try:
        await serving.serve(app.read_settings(os.environ))
    finally:
        over.set()
        await asyncio.to_thread(thread.join)


if __name__ == "__main__":
    uvloop.run(_serve())
