"""The doors of a broker: where it listens and when; and how several processes share them, and nobody else does.

With SO_REUSEPORT the kernel deals new connections out to all sockets that listen at a port. It lets any process of the
same user join, so a second broker could take half of the connections, silently. `held` is the answer: bind as one who
shares with nobody, which fails if anybody is there, and only then let the socket share. It never listens, so the kernel
deals it nothing. As long as it is open nobody can bind who does not ask to share, be a process of ours alive or not;
and no broker shares what has not been held for it.
"""

import socket
from dataclasses import dataclass
from typing import Final

from broker.config import Address, variable_of

GRPC_ADDRESS: Final = variable_of("grpc_address")
HTTP_ADDRESS: Final = variable_of("http_address")


class AddressTaken(Exception):
    """An address can't be listened at. Names the setting to change."""

    def __init__(self, setting: str, address: Address, error: OSError) -> None:
        super().__init__(f"{setting}: can't listen at {address}: {error.strerror or error}")


@dataclass(frozen=True)
class Doors:
    """Where a broker listens, and when.

    Attributes:
        shared: with others, for whom the addresses are held.
        when_ready: it listens when it can serve, and not before: somebody else serves meanwhile.
    """

    grpc: Address
    http: Address
    shared: bool = False
    when_ready: bool = False


def held(address: Address) -> socket.socket:
    """A socket that keeps the address for those who share it; port 0 lets the system choose.

    Raises:
        OSError: the address is taken, or none of ours.
    """
    try:
        return _held(address, reuse=False)
    except OSError:
        # Connections that were closed a moment ago keep an address, too, and are nobody. Second, since it takes two
        # steps, between which a supervisor that starts at the same moment could do the same.
        return _held(address, reuse=True)


def _held(address: Address, *, reuse: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        holder.bind(address)
        # Who asks for this one (all servers do) may join whom it was left set for, until somebody listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        holder.close()
        raise
    return holder
