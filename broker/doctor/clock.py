"""clock: this machine's against the database's.

Claims are kept by the database's clock, and lifetimes by a monotonic one: a wrong clock loses no token. But
certificates, callers' bearer tokens and the audit trail's times are judged by this machine's.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, ok, warn
from broker.doctor.sessions import Session

# Machines that keep their clocks by NTP are some milliseconds apart.
TOLERANCE: Final = timedelta(seconds=2)
# The shortest round trip tells most.
ROUNDS: Final = 5
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"


def look(environment: Environment) -> Iterator[Finding]:
    """Ask the database for the time."""
    trip, ahead = min(_measured(environment.session) for _ in range(ROUNDS))
    yield _verdict(timedelta(seconds=ahead), timedelta(seconds=trip / 2))


def _measured(session: Session) -> tuple[float, float]:
    """The round trip, and how far this machine's clock is ahead of the database's, in seconds."""
    began_at, began = time.time(), time.monotonic()
    (theirs,) = session.row(_NOW)
    trip = time.monotonic() - began
    return trip, began_at + trip / 2 - theirs


def _verdict(ahead: timedelta, give_or_take: timedelta) -> Finding:
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    bound = f"give or take {_milliseconds(give_or_take)}"
    text = f"this machine's clock is {_milliseconds(abs(ahead))} {direction} the database's, {bound}"
    if abs(ahead) - give_or_take <= TOLERANCE:
        return ok(text)
    return warn(
        text,
        "let both machines keep their clocks by NTP: certificates, bearer tokens and the audit trail go by this one",
    )


def _milliseconds(time_span: timedelta) -> str:
    return f"{time_span / timedelta(milliseconds=1):,.0f} ms"
