"""addresses: whether they are free to listen at. One that a running broker has is as it should be."""

import errno
import http.client
import ipaddress
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from broker.config import Address, Settings, variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok

ANSWER_LIMIT: Final = timedelta(seconds=2)
# What a broker answers at /healthz.
ALIVE: Final = b"ok\n"
_SUFFIX: Final = "_address"
# Of several workers each has the port behind the one before.
_PER_PROCESS: Final = "operations_address"


def look(environment: Environment) -> Iterator[Finding]:
    """Bind each, and let go of it at once."""
    settings = environment.settings
    names = [name for name in Settings.model_fields if name.endswith(_SUFFIX)]
    is_up = _is_broker(settings.http_address)
    for name in names:
        address = getattr(settings, name)
        if address is None:
            continue
        for process in range(settings.workers if name == _PER_PROCESS and address.port else 1):
            yield _verdict(variable_of(name), address.at(address.port + process), is_up=is_up)


def _verdict(setting: str, address: Address, *, is_up: bool) -> Finding:
    try:
        _bind(address)
    except OverflowError:
        return fail(f"{setting}: there is no port {address.port}", "leave room for the ports of all workers")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return fail(
                f"{setting}: {address} can't be listened at: {error.strerror or type(error).__name__}",
                "name an address of this machine, with a port from 1024 on",
            )
        if is_up:
            return ok(f"{setting}: {address} is taken, and a broker runs here")
        return fail(f"{setting}: {address} is taken by another program", "end that one, or name another port")
    return ok(f"{setting}: {address} is free")


def _bind(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As the broker itself: connections that have just ended keep nobody out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)


def _is_broker(address: Address) -> bool:
    """Whether a broker answers there."""
    connection = http.client.HTTPConnection(
        _reachable(address.host), address.port, timeout=ANSWER_LIMIT.total_seconds()
    )
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == http.client.OK and answer.read(len(ALIVE) + 1) == ALIVE
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _reachable(host: str) -> str:
    """Where to ask: whoever listens everywhere also listens on loopback."""
    try:
        listened_at = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not listened_at.is_unspecified:
        return host
    return "127.0.0.1" if isinstance(listened_at, ipaddress.IPv4Address) else "::1"
