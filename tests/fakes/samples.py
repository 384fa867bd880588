"""One app, one install, and what Envoy says of them: the examples that most tests use."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

from broker.adapters.keys import TinkCipher, generate_keyset
from broker.domain.apps import Apps, EnvoyApp
from broker.domain.claims import ClaimTerms, Purpose
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Install, IssuedTokens, Validity
from broker.domain.secret import Secret
from broker.domain.states import InstallState
from broker.domain.webhooks import RouteWebhook
from broker.service.attempts import RefreshTiming

APP: Final = EnvoyApp("5024", "a-client-id", Secret("the-client-secret-of-the-app"))
OTHER_APP: Final = EnvoyApp("6035", "another-client-id", Secret("the-client-secret-of-another"))
APPS: Final = Apps([APP])
KEY: Final = InstallKey(APP.plugin_id, "96931")
OTHER_KEY: Final = InstallKey(APP.plugin_id, "96932")
COMPANY: Final = "110090"

ACCESS_LIFE: Final = timedelta(days=1)
REFRESH_LIFE: Final = timedelta(days=30)
CLAIM_LIFE: Final = timedelta(seconds=45)
TIMING: Final = RefreshTiming(call=timedelta(seconds=30), claim=CLAIM_LIFE, margin=timedelta(seconds=5))

# Making a keyset costs more than a test; one does for all.
CIPHER: Final = TinkCipher(generate_keyset())

LONG_AGO: Final = datetime(2026, 1, 1, tzinfo=UTC)

_serial: Final = itertools.count(1)


def issued(
    requested_at: datetime,
    *,
    expires_in: timedelta = ACCESS_LIFE,
    refresh_token: bool = True,
    company_id: str = COMPANY,
    minted: bool = False,
) -> IssuedTokens:
    """A pair that no other call gives, issued at `requested_at`."""
    serial = next(_serial)
    return IssuedTokens(
        access_token=Secret(f"an-access-token-{serial:06}"),
        token_type="Bearer",
        requested_at=requested_at,
        expires_in=expires_in,
        refresh_token=Secret(f"a-refresh-token-{serial:06}") if refresh_token else None,
        refresh_token_expires_in=REFRESH_LIFE if refresh_token else None,
        company_id=company_id,
        minted=minted,
    )


def install_of(validity: Validity | None, *, in_doubt: bool = False, rejected: bool = False) -> Install:
    """An ACTIVE install of generation 1 with a token of these times."""
    return Install(
        key=KEY,
        company_id=COMPANY,
        state=InstallState.ACTIVE,
        generation=1,
        validity=validity,
        in_doubt=in_doubt,
        attempt=1,
        claim_ends_at=None,
        exchange_owed=False,
        rejected=rejected,
        failure=None,
        last_attempt=None,
        created_at=LONG_AGO,
        updated_at=LONG_AGO,
    )


def route_webhook(digest: bytes = b"first", key: InstallKey = KEY) -> RouteWebhook:
    """A route webhook; `digest` tells it from another."""
    return RouteWebhook(
        key=key,
        company_id=COMPANY,
        access_token=Secret(f"the-token-of-the-webhook-{digest.hex()}"),
        token_type="Bearer",
        expires_in=ACCESS_LIFE,
        digest=digest,
    )


def due(seen_generation: int, *, owner: str = "a-replica", life: timedelta = CLAIM_LIFE) -> ClaimTerms:
    """What a replica asks for that holds a due token."""
    return ClaimTerms(owner, life, Purpose.DUE, seen_generation)


def forced(seen_generation: int) -> ClaimTerms:
    """What an operator asks for."""
    return ClaimTerms("a-replica", CLAIM_LIFE, Purpose.FORCED, seen_generation)


def exchange(digest: bytes = b"first") -> ClaimTerms:
    """What a webhook asks for."""
    return ClaimTerms("a-replica", CLAIM_LIFE, Purpose.EXCHANGE, webhook_digest=digest)
