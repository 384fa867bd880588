"""An address that is held for workers: theirs, and nobody else's. By real sockets, since only the kernel knows."""

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from broker.config import Address
from broker.doors import held
from broker.web.server import listen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux deals out a port's connections")

HOST: Final = "127.0.0.1"
ANY: Final = Address(HOST, 0)
CONNECTIONS: Final = 32


@pytest.fixture(params=[False, True], ids=["free", "just_left"])
def holder(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A held address, where nobody was, or where a broker has just closed a connection and gone."""
    port = left_port() if request.param else 0
    with closing(held(ANY.at(port))) as holding:
        yield holding


def left_port() -> int:
    """The port of a server that has closed a connection first: the system remembers it for a minute (TIME_WAIT)."""
    with listen(*ANY) as server, socket.create_connection(server.getsockname()) as client:
        port = int(server.getsockname()[1])
        server.accept()[0].close()
        assert client.recv(1) == b""
    with socket.socket() as anybody, pytest.raises(OSError, match="in use"):
        anybody.bind((HOST, port))
    return port


def port_of(holding: socket.socket) -> int:
    """The port that is held."""
    return int(holding.getsockname()[1])


def test_held_address_is_kept_from_others(holder: socket.socket) -> None:
    """From a broker that serves alone, from another supervisor, at any address of the port; with no worker alive."""
    for host in (HOST, "0.0.0.0", "::"):
        with pytest.raises(OSError, match="in use"):
            listen(host, port_of(holder))
        with pytest.raises(OSError, match="in use"):
            held(Address(host, port_of(holder)))


def test_held_address_is_kept_from_others_while_workers_listen(holder: socket.socket) -> None:
    """They ask to share, and so must not open the door for who does not."""
    with listen(HOST, port_of(holder), shared=True):
        test_held_address_is_kept_from_others(holder)
    test_held_address_is_kept_from_others(holder)


def test_workers_get_every_connection_and_the_holder_none(holder: socket.socket) -> None:
    """One that it got would wait for ever."""
    port = port_of(holder)
    with listen(HOST, port, shared=True) as one, listen(HOST, port, shared=True) as other:
        clients = [socket.create_connection((HOST, port)) for _ in range(CONNECTIONS)]
        shares = [accepted(one), accepted(other)]
        for client in clients:
            client.close()
    assert sum(shares) == CONNECTIONS
    assert min(shares) > 0


def accepted(listener: socket.socket) -> int:
    """How many connections wait there."""
    listener.settimeout(0)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_address_where_somebody_listens_is_not_held() -> None:
    """Be it a broker alone, or the workers of another supervisor."""
    with listen(*ANY) as alone, pytest.raises(OSError, match="in use"):
        held(ANY.at(port_of(alone)))
    with (
        closing(held(ANY)) as holding,
        listen(HOST, port_of(holding), shared=True),
        pytest.raises(OSError, match="in use"),
    ):
        held(ANY.at(port_of(holding)))
