"""provider: whether Envoy's token endpoint can be reached. Nothing is asked of it, and no credentials are sent."""

import ssl
from collections.abc import Iterator
from datetime import timedelta

import httpx

from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok
from broker.doctor.network import NotReached, Place, reached, shaken_hands


def look(environment: Environment) -> Iterator[Finding]:
    """By the list of authorities that a broker believes, and by no proxy, as it calls."""
    yield handshake_with(environment.settings.envoy_token_url, httpx.create_ssl_context(trust_env=False))


def handshake_with(token_url: str, tls: ssl.SSLContext) -> Finding:
    """TCP, then TLS where the URL says https."""
    place = Place.of(token_url)
    try:
        if place.scheme == "http":
            took = reached(place)
            return ok(f"{place}: TCP connects in {_milliseconds(took)}; plain http, to this machine alone")
        made = shaken_hands(place, tls)
    except NotReached as error:
        return fail(f"{place}: {error.reason}", error.remedy)
    return ok(f"{place}: {made.version}, its certificate verified, which ends {made.ends_at:%Y-%m-%d}")


def _milliseconds(took: timedelta) -> str:
    return f"{took / timedelta(milliseconds=1):.0f} ms"
