"""Where a token may go: one origin (RFC 6454), and no other."""

from typing import Final, NamedTuple
from urllib.parse import urlsplit

ENVOY: Final = "https://api.envoy.com"
HEADER: Final = "Authorization"
UNAUTHORIZED: Final = 401
_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port, in lower case and with no default left out."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin | None":
        """The origin of a URL, None if it has none that a token could go to."""
        try:
            parts = urlsplit(url)
            return cls.named(parts.scheme, parts.hostname, parts.port)
        except ValueError:
            return None

    @classmethod
    def named(cls, scheme: str, host: str | None, port: int | None) -> "Origin | None":
        """The origin of a URL that has been taken apart."""
        scheme = scheme.lower()
        if scheme not in _PORTS or not host:
            return None
        return cls(scheme, host.lower(), _PORTS[scheme] if port is None else port)

    @classmethod
    def configured(cls, url: str) -> "Origin":
        """The origin that somebody has written down.

        Raises:
            ValueError: it is none.
        """
        origin = cls.of(url)
        if origin is None:
            raise ValueError(f"no origin such as {ENVOY}: {url!r}")
        return origin
