"""process: what the system gives a broker's process, and to whom it would show its memory."""

import os
import resource
from collections.abc import Iterator
from typing import Final

from broker.api import server as grpc_server
from broker.descriptors import SPARE
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn
from broker.process_hardening import close_process_to_onlookers
from broker.web import connections as web_connections

ROOT: Final = 0


def look(environment: Environment) -> Iterator[Finding]:
    """Of this process, which has the broker's account and limits if it is started as the broker is."""
    yield _closed()
    yield _account(os.geteuid())
    settings = environment.settings
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield _descriptors(hard, needed_descriptors(settings.database_connections + settings.refreshes_in_flight))


def needed_descriptors(own_connections: int) -> int:
    """As many as broker/descriptors.py makes room for."""
    return grpc_server.MAX_CONNECTIONS + web_connections.MAX_CONNECTIONS + own_connections + SPARE


def _closed() -> Finding:
    """This process holds the same secrets as a broker, so it closes itself in the same way."""
    try:
        close_process_to_onlookers()
    except OSError as error:
        return fail(
            f"core dumps and debuggers can't be kept out: {error.strerror}",
            "a broker does not start so; see what forbids it prctl and setrlimit",
        )
    return ok("core dumps are off, and no other account but root may look into the memory")


def _account(user_id: int) -> Finding:
    if user_id == ROOT:
        return warn("runs as root", "run it as an account of its own: it needs no right that root has")
    return ok(f"runs as the account {user_id}, which is not root")


def _descriptors(hard: int, needed: int) -> Finding:
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return ok(f"a broker needs {needed} file descriptors at most, and may have them")
    return warn(
        f"a broker needs {needed} file descriptors at most, and may have {hard}: in a flood it may lack some",
        f"raise the hard limit (ulimit -Hn, LimitNOFILE=) to {needed}",
    )
