"""Where the client secret may be sent."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


def check_token_url(url: str) -> None:
    """Nothing, if the client secret may be sent to `url`: https, or http to this machine.

    Raises:
        ValueError: it may not. The text does not hold the URL.
    """
    if not _VISIBLE_ASCII.fullmatch(url) or "\\" in url:
        raise ValueError("must be a URL in visible ASCII characters, without a backslash")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if not (_NAME.fullmatch(host) or _address(host)):
        raise ValueError("must be an absolute URL with a host name, and a port from 0 to 65535 if any")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("must have neither user name nor password nor fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("must begin with https://, or with http:// and lead to this machine")


def is_loopback(host: str) -> bool:
    """Whether only this machine answers at `host`."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
