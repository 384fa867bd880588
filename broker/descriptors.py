"""File descriptors: enough for every connection that the bounds let in, so that a flood does not take the database's."""

import resource
from typing import Final

import structlog

from broker.api import server as grpc_server
from broker.web import connections as web_connections

# What a process has open beside its connections: files, the event loops' own, connections that are just being closed.
SPARE: Final = 256

log = structlog.get_logger(__name__)


def make_room(own_connections: int) -> None:
    """Raise this process's limit as far as is needed and allowed; say so if that is not enough.

    Systems keep the soft limit at 1,024 for the sake of programs that use select(), which this one does not. A process
    may raise its own up to the hard limit (getrlimit(2)).

    Args:
        own_connections: how many the broker itself opens.
    """
    needed = grpc_server.MAX_CONNECTIONS + web_connections.MAX_CONNECTIONS + own_connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _suffices(soft, needed):
        return
    allowed = needed if _suffices(hard, needed) else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning("broker.few_descriptors", allowed=allowed, needed=needed)


def _suffices(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed
