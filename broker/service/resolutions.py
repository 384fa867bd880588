"""What each failure of a call to Envoy means for the attempt: the table at the top of refresher.py."""

from datetime import timedelta
from typing import Final

from broker.domain.claims import Purpose, Resolution
from broker.domain.errors import (
    BrokerError,
    ClientCredentialsRefused,
    ClientRefused,
    CompanyMismatch,
    GrantRefused,
    Limited,
    NotSent,
    OutcomeUnknown,
    ProviderFault,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from broker.domain.provider_health import CLIENT_REFUSED
from broker.domain.states import InstallEvent

# What Envoy answers to a mint after an uninstall is not documented. Behind a verified webhook that says so, these
# are as good as a refusal: a bare 401, since the same secret has just verified that webhook.
_REFUSED_AFTER_UNINSTALL: Final = frozenset({"status_401", "status_403", "status_404", "status_410"})


def resolve_fault(
    fault: ProviderFault, wait: timedelta, purpose: Purpose, *, must_mint_next: bool
) -> tuple[Resolution, BrokerError | None]:
    """How the attempt is resolved, and what its waiters are told; None if it is what they wanted."""
    asks_whether_installed = purpose is Purpose.UNINSTALL
    if asks_whether_installed and (isinstance(fault, GrantRefused) or fault.kind in _REFUSED_AFTER_UNINSTALL):
        return Resolution(fault.kind, wait, in_doubt=True, event=InstallEvent.UNINSTALLED), None
    match fault:
        case GrantRefused():
            resolution = Resolution(fault.kind, wait, in_doubt=True, event=InstallEvent.MINT_REFUSED)
            return resolution, ReauthorizationRequired()
        case CompanyMismatch():
            resolution = Resolution(fault.kind, wait, in_doubt=True, event=InstallEvent.QUARANTINED)
            return resolution, ReauthorizationRequired()
        case ClientRefused():
            return Resolution(CLIENT_REFUSED, wait, in_doubt=must_mint_next), ClientCredentialsRefused()
        case Limited(retry_after=retry_after):
            wait = retry_after if retry_after is not None else wait
            resolution = Resolution(fault.kind, wait, in_doubt=must_mint_next)
        case NotSent():
            resolution = Resolution(fault.kind, wait, in_doubt=must_mint_next)
        case OutcomeUnknown(retry_after=timedelta() as retry_after):
            wait = retry_after
            resolution = Resolution(fault.kind, wait, in_doubt=True)
        case _:
            resolution = Resolution(fault.kind, wait, in_doubt=True)
    return resolution, unavailable(fault.kind, wait)


def told_to_the_provider_s_health(fault: ProviderFault) -> ProviderFault | None:
    """None if Envoy served all the same: it said no to one install, or named another company."""
    return None if isinstance(fault, GrantRefused | CompanyMismatch) else fault


def unavailable(kind: str, retry_in: timedelta) -> ProviderUnavailable:
    """Envoy brought nothing; `kind` says why, `retry_in` when to come back."""
    return ProviderUnavailable(f"Envoy could not be asked for a token ({kind}); retry later", retry_in)
