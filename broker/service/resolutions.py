"""What each failure of a call to Envoy means for the attempt: the table at the top of refresher.py."""

from datetime import timedelta
from typing import Final

from broker.domain.errors import (
    BrokerError,
    ClientCredentialsRefused,
    ClientRefused,
    GrantRefused,
    Limited,
    NotSent,
    ProviderFault,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from broker.ports import Resolution

# Failure.kind of a refused client, whatever words Envoy had for it: the back-off then tells the same reason.
CLIENT_REFUSED: Final = "client_refused"


def resolve_fault(
    fault: ProviderFault, wait: timedelta, *, must_mint_next: bool
) -> tuple[Resolution, BrokerError]:
    """How the attempt is resolved, and what its waiters are told."""
    match fault:
        case GrantRefused():
            resolution = Resolution(fault.kind, wait, in_doubt=True, mint_refused=True)
            return resolution, ReauthorizationRequired()
        case ClientRefused():
            return Resolution(CLIENT_REFUSED, wait, in_doubt=must_mint_next), ClientCredentialsRefused()
        case Limited(retry_after=retry_after):
            wait = retry_after if retry_after is not None else wait
            resolution = Resolution(fault.kind, wait, in_doubt=must_mint_next)
        case NotSent():
            resolution = Resolution(fault.kind, wait, in_doubt=must_mint_next)
        case _:
            resolution = Resolution(fault.kind, wait, in_doubt=True)
    return resolution, unavailable(fault.kind, wait)


def unavailable(kind: str, retry_in: timedelta) -> ProviderUnavailable:
    """Envoy brought nothing; `kind` says why, `retry_in` when to come back."""
    return ProviderUnavailable(f"Envoy could not be asked for a token ({kind}); retry later", retry_in)
