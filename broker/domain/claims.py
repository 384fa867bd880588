"""Who may fetch the next pair of an install, and by which grant.

The store calls `decide` with the install's row locked, so that the decision and the claim are one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from broker.domain.identifiers import InstallKey
from broker.domain.installs import Failure, Holding, Install
from broker.domain.secret import Secret
from broker.domain.states import InstallState


class Purpose(Enum):
    """Why a pair is wanted.

    DUE: the one we hold is due or expired. FORCED: an operator wants a new one.
    EXCHANGE: a verified webhook says that the app has been installed.
    """

    DUE = "due"
    FORCED = "forced"
    EXCHANGE = "exchange"


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """What an attempt asks the store for.

    Attributes:
        owner: names the process, for people who look at the table.
        life: how long the claim stands on the database's clock.
        seen_generation: the generation that the asker knows; if it has moved, there is nothing to do.
            None for an EXCHANGE, which does not look at it.
        webhook_digest: for an EXCHANGE, what tells one webhook from another.
    """

    owner: str
    life: timedelta
    purpose: Purpose
    seen_generation: int | None = None
    webhook_digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one attempt, with the intent written and committed.

    Attributes:
        attempt: its number: the fence when its pair is stored.
        generation: the generation it set out from.
        expires_at: when it ends on the broker's clock, counted from before it was asked for.
        refresh_token: what may be presented; None if there is none, it has expired, or it must not be
            presented since an earlier attempt's outcome is unknown. Then the attempt mints.
        was_in_doubt: an earlier attempt's outcome was unknown already.
        company_id: whose pair it must be; "" while any company's will do (see `confirmed_company`).
    """

    key: InstallKey
    attempt: int
    generation: int
    expires_at: datetime
    refresh_token: Secret | None
    was_in_doubt: bool
    purpose: Purpose
    company_id: str
    failures: int
    webhook_digest: bytes | None


class Verdict(Enum):
    """What a locked install lets an attempt do.

    TAKE the claim; ADOPT what stands there already; WAIT for the claim that another holds;
    BACK_OFF until the failure's retry_at; REAUTHORIZE: only a webhook or an operator may try;
    GONE: there is a tombstone.
    """

    TAKE = "take"
    ADOPT = "adopt"
    WAIT = "wait"
    BACK_OFF = "back off"
    REAUTHORIZE = "reauthorize"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class ClaimHeld:
    """Another attempt holds the claim for `ends_in` more at the most."""

    ends_in: timedelta


@dataclass(frozen=True, slots=True)
class BackingOff:
    """The last attempt failed as `failure` says, and the next one is not due for `retry_in` more.

    `holding` is what stands there, so that the asker's process learns of the failure and asks no more.
    """

    holding: Holding
    failure: Failure
    retry_in: timedelta


def decide(
    install: Install,
    terms: ClaimTerms,
    *,
    webhook_digest: bytes | None,
    claim_expires_at: datetime | None,
    now: datetime,
) -> Verdict:
    """What `terms` may do to `install`, whose row has the last two of the arguments before `now`."""
    if terms.purpose is Purpose.EXCHANGE:
        if install.state is InstallState.ACTIVE and webhook_digest == terms.webhook_digest:
            return Verdict.ADOPT
    elif install.state is InstallState.UNINSTALLED:
        return Verdict.GONE
    elif install.state is InstallState.REAUTHORIZATION_REQUIRED and terms.purpose is Purpose.DUE:
        return Verdict.REAUTHORIZE
    elif terms.seen_generation is None or install.generation > terms.seen_generation:
        return Verdict.ADOPT
    if claim_expires_at is not None and claim_expires_at > now:
        return Verdict.WAIT
    if terms.purpose is Purpose.DUE and install.failure is not None and install.failure.retry_at > now:
        return Verdict.BACK_OFF
    return Verdict.TAKE


def presentable(install: Install, terms: ClaimTerms, now: datetime) -> bool:
    """Whether the stored refresh token may be presented: nothing is known that may have spent it.

    An EXCHANGE is for a new pair. In doubt, nobody knows. And a generation behind the one that the asker has
    seen means that the database has forgotten commits (a failover): its refresh token has bought that one.
    """
    if terms.purpose is Purpose.EXCHANGE or install.in_doubt or install.validity is None:
        return False
    if terms.seen_generation is not None and install.generation < terms.seen_generation:
        return False
    end = install.validity.refresh_token_expires_at
    return end is None or now < end


def confirmed_company(install: Install) -> str:
    """The company that Envoy's token endpoint has named for an install that it serves, or "".

    Before, and after a refusal or an uninstall, only a webhook has named one, which is a hint and not the truth.
    """
    return install.company_id if install.state is InstallState.ACTIVE else ""
