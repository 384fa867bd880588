"""Whether a host can be reached: its name, then TCP, then TLS, and not a byte of a request."""

import socket
import ssl
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import urlsplit

# For all steps together, less than a check's own limit, so that it can say which step it was.
REACH_LIMIT: Final = timedelta(seconds=6)
# Zero would mean not to wait at all, which is another error.
SHORTEST_WAIT: Final = timedelta(milliseconds=1)
_END: Final = "notAfter"
_PORTS: Final = {"https": 443, "http": 80}


class Place(NamedTuple):
    """Where a URL leads."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> "Place":
        """Raises ValueError if it leads nowhere. What else stands in the URL is not kept: it may be a secret."""
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        if not parts.hostname or not port:
            raise ValueError("no host and port")
        return cls(parts.scheme, parts.hostname, port)


class NotReached(Exception):
    """Attributes: reason, remedy: as a finding tells them."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Handshake(NamedTuple):
    """What came of TLS. Attributes: version: as OpenSSL writes it, such as TLSv1.3."""

    version: str
    ends_at: datetime


def reached(place: Place) -> timedelta:
    """How long TCP took to connect.

    Raises:
        NotReached.
    """
    began = time.monotonic()
    _connected(place, began).close()
    return timedelta(seconds=time.monotonic() - began)


def shaken_hands(place: Place, tls: ssl.SSLContext) -> Handshake:
    """A handshake, and goodbye.

    Raises:
        NotReached.
    """
    began = time.monotonic()
    with closing(_connected(place, began)) as connection:
        connection.settimeout(_left(began))
        try:
            with tls.wrap_socket(connection, server_hostname=place.host) as secured:
                end = (secured.getpeercert() or {})[_END]
                ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(end)), UTC)
                return Handshake(secured.version() or "TLS", ends_at)
        except ssl.SSLCertVerificationError as error:
            raise NotReached(
                f"its certificate is not believed: {error.verify_message}",
                "somebody may stand in between, such as a proxy that opens TLS; or this machine's clock is wrong",
            ) from None
        except TimeoutError:
            raise NotReached("TCP connects, and TLS does not answer", _IN_BETWEEN) from None
        except (ssl.SSLError, OSError) as error:
            raise NotReached(f"TCP connects, and TLS fails ({_kind(error)})", _IN_BETWEEN) from None


_IN_BETWEEN: Final = "see what answers there in its place, such as a firewall or a proxy"


def _connected(place: Place, began: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError:
        raise NotReached(
            "the name of its host is not found", "mend the name, or this machine's name server"
        ) from None
    error: OSError | None = None
    for family, kind, protocol, _name, address in found:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(_left(began))
        try:
            connection.connect(address)
        except OSError as failed:
            connection.close()
            error = failed
        else:
            return connection
    raise NotReached(
        f"no connection by TCP ({_kind(error)})",
        "open the way to it: a firewall, a NetworkPolicy, a route; no proxy is used",
    )


def _left(began: float) -> float:
    """In seconds."""
    return max(began + REACH_LIMIT.total_seconds() - time.monotonic(), SHORTEST_WAIT.total_seconds())


def _kind(error: OSError | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    return (error.strerror if error is not None else None) or "unknown"
