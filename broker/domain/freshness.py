"""How fresh a token is, and when to fetch the next one."""

from datetime import datetime, timedelta
from enum import Enum
from hashlib import blake2b
from typing import Final

from broker.domain.identifiers import InstallKey
from broker.domain.installs import Install, Validity

# A token's last seconds are not handed out: it must still live when Envoy reads it.
EXPIRY_MARGIN: Final = timedelta(seconds=5)
# … nor is more than this share of its life withheld, however short that is.
EXPIRY_MARGIN_SHARE: Final = 0.1
# A refresh is due at two thirds of the lifetime, earlier by up to this share of those two thirds.
DUE_SHARE: Final = 2 / 3
DUE_JITTER_SHARE: Final = 0.1
# A refresh token that lives shorter than this is not renewed for its own sake.
SHORTEST_RENEWED: Final = timedelta(hours=1)
# A caller's min_ttl may ask for at most this share, or it would fetch a token at nearly every call.
MIN_TTL_SHARE: Final = 0.5


class Freshness(Enum):
    """FRESH: serve. STALE: serve, and refresh behind it. EXPIRED: wait for a refresh."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


def due_after(
    lifetime: timedelta, key: InstallKey, generation: int, refresh_token_lifetime: timedelta | None = None
) -> timedelta:
    """How long after its issue a token set is due for refresh: spread per install and generation.

    A refresh token that ends before that is renewed ahead of its own end, unless it is nearly over in any case:
    then a mint follows, and renewing what Envoy does not prolong would go on in ever shorter steps.
    The spread is a hash and no random number, so that every replica agrees.
    """
    if refresh_token_lifetime is not None and refresh_token_lifetime >= SHORTEST_RENEWED:
        lifetime = min(lifetime, refresh_token_lifetime)
    name = f"{key.plugin_id}\0{key.install_id}\0{generation}".encode()
    spread = int.from_bytes(blake2b(name, digest_size=8).digest()) / 2**64
    return lifetime * (DUE_SHARE * (1 - DUE_JITTER_SHARE * spread))


def usable_until(validity: Validity) -> datetime:
    """The moment from which the token counts as expired, a margin before it is."""
    return validity.expires_at - min(EXPIRY_MARGIN, validity.lifetime * EXPIRY_MARGIN_SHARE)


def freshness(install: Install, now: datetime) -> Freshness:
    """FRESH, STALE or EXPIRED at `now`. In doubt means due; without a token, or with a rejected one, EXPIRED."""
    validity = install.validity
    if validity is None or install.rejected or now >= usable_until(validity):
        return Freshness.EXPIRED
    if install.in_doubt or now >= validity.refresh_due_at:
        return Freshness.STALE
    return Freshness.FRESH


def longest_min_ttl(validity: Validity) -> timedelta:
    """The longest `min_ttl` that callers of this install may ask for."""
    return validity.lifetime * MIN_TTL_SHARE
