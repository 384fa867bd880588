"""`python -m broker.healthcheck`: whether the broker of this container is ready, as its exit status.

An engine runs it every few seconds: it imports next to nothing, asks no proxy, and needs neither a shell nor curl.
"""

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

# As in broker/config/settings.py, whose imports would take longer than the question; a test compares them.
ADDRESS_VARIABLE: Final = "TOKEN_BROKER_HTTP_ADDRESS"
DEFAULT_ADDRESS: Final = "127.0.0.1:8080"
# What listens everywhere is asked by loopback.
ASKED_AT: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
TIMEOUT_SECONDS: Final = 2
READY: Final = 200


def problem(environ: Mapping[str, str]) -> str | None:
    """Why the broker with these settings is not ready, in one line; None if it is."""
    address = urlsplit(f"//{environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS)}")
    host = address.hostname or ""
    connection = HTTPConnection(ASKED_AT.get(host, host), address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"no answer from {address.netloc}: {type(error).__name__}"
    finally:
        connection.close()
    return None if status == READY else f"/readyz answers {status}"


if __name__ == "__main__":
    sys.exit(problem(os.environ))
