"""Who may fetch the next pair of an install, and by which grant.

The store calls `decide` with the install's row locked, so that the decision and the claim are one.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from uuid import UUID

from broker.domain.freshness import due_after
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Failure, Holding, Install, IssuedTokens, Validity
from broker.domain.secret import Secret
from broker.domain.states import SERVING_STATES, InstallEvent, InstallState, after
from broker.domain.webhooks import RESEND_WINDOW


class Purpose(Enum):
    """Why a pair is wanted.

    DUE: the one we hold is due or expired. FORCED: an operator wants a new one.
    EXCHANGE: a verified webhook says that the app has been installed.
    UNINSTALL: a verified webhook says that it has been uninstalled. It may be late, or a replay: Envoy is asked.
    """

    DUE = "due"
    FORCED = "forced"
    EXCHANGE = "exchange"
    UNINSTALL = "uninstall"


# These want a new pair whatever is stored, and look at no generation.
WEBHOOK_PURPOSES = frozenset({Purpose.EXCHANGE, Purpose.UNINSTALL})


class Ending(StrEnum):
    """How an attempt ended that brought a pair or found one. The values are stored and counted.

    REFRESHED: the refresh token bought it. MINTED: there was none to present, or a webhook wanted a new pair.
    MINTED_AFTER_REFUSAL: Envoy refused the refresh token first. MINTED_IN_DOUBT: an earlier attempt's outcome
    was unknown. SUPERSEDED: another attempt's pair stood there already. Every other ending is the fault's kind.
    """

    REFRESHED = "refreshed"
    MINTED = "minted"
    MINTED_AFTER_REFUSAL = "minted_after_refusal"
    MINTED_IN_DOUBT = "minted_in_doubt"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """What an attempt asks the store for.

    Attributes:
        owner: names the process, for people who look at the table.
        life: how long the claim stands on the database's clock.
        seen_generation: the generation that the asker knows; if it has moved, there is nothing to do.
            None for a webhook, which does not look at it.
        webhook_digest: what tells one webhook from another.
        traceparent: the W3C traceparent of the span of the attempt's refresh; "" without one. Terms that differ in
            nothing else ask for the same.
    """

    owner: str
    life: timedelta
    purpose: Purpose
    seen_generation: int | None = None
    webhook_digest: bytes | None = None
    traceparent: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one attempt, with the intent written and committed.

    Attributes:
        install: as it stood when the claim was taken.
        attempt: its number: the fence when its pair is stored.
        claim_id: random. A database that forgot commits (a failover) may give one number twice, an id never.
        owner: names the process that holds it.
        generation: the newest that the database or the asker knew: the pair's will be higher.
        began_at: just before it was asked for, on the broker's clock.
        expires_at: when it ends, counted from there.
        refresh_token: what may be presented; None if there is none, it has expired, or it must not be
            presented since an earlier attempt's outcome is unknown. Then the attempt mints.
        presentations: how often this generation's refresh token will have been presented, this attempt's time
            included: 1, or a promise is broken (P1). 0 if the attempt mints.
        traceparent: see ClaimTerms.
        company_id: whose pair it must be; "" while any company's will do (see `confirmed_company`).
    """

    install: Install
    attempt: int
    claim_id: UUID
    owner: str
    generation: int
    began_at: datetime
    expires_at: datetime
    refresh_token: Secret | None
    presentations: int
    traceparent: str
    purpose: Purpose
    company_id: str
    webhook_digest: bytes | None

    @property
    def key(self) -> InstallKey:
        """The install's key."""
        return self.install.key

    @property
    def was_in_doubt(self) -> bool:
        """Whether an earlier attempt's outcome was unknown already."""
        return self.install.in_doubt

    @property
    def failures(self) -> int:
        """How many attempts had failed in a row."""
        return self.install.failure.count if self.install.failure is not None else 0


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
    """Another attempt holds the claim for `ends_in` more at the most. `traceparent`: its ClaimTerms', or ""."""

    ends_in: timedelta
    traceparent: str = ""


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
    if terms.purpose in WEBHOOK_PURPOSES:
        if _is_told_already(install, terms, webhook_digest, now):
            return Verdict.ADOPT
    elif terms.purpose is Purpose.DUE and install.state not in SERVING_STATES and not install.exchange_owed:
        return Verdict.GONE if install.state is InstallState.UNINSTALLED else Verdict.REAUTHORIZE
    elif terms.seen_generation is None or install.generation > terms.seen_generation:
        return Verdict.ADOPT
    if claim_expires_at is not None and claim_expires_at > now:
        return Verdict.WAIT
    if terms.purpose is Purpose.DUE and install.failure is not None and install.failure.retry_at > now:
        return Verdict.BACK_OFF
    return Verdict.TAKE


def _is_told_already(
    install: Install, terms: ClaimTerms, webhook_digest: bytes | None, now: datetime
) -> bool:
    """Whether what the webhook says has been asked of Envoy already, so that it can tell nothing newer."""
    is_same = webhook_digest == terms.webhook_digest
    if terms.purpose is Purpose.EXCHANGE:
        return is_same and install.state is InstallState.ACTIVE
    if install.state is InstallState.UNINSTALLED:
        return True
    # The app may be uninstalled twice by events of the same bytes, but not within the time of their resending.
    return is_same and install.validity is not None and now < install.validity.issued_at + RESEND_WINDOW


def presentable(install: Install, terms: ClaimTerms, now: datetime) -> bool:
    """Whether the stored refresh token may be presented: nothing is known that may have spent it.

    A webhook is for a new pair. In doubt, nobody knows. And a generation behind the one that the asker has
    seen means that the database has forgotten commits (a failover): its refresh token has bought that one.
    """
    if terms.purpose in WEBHOOK_PURPOSES or install.in_doubt or install.validity is None:
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


def ending_of(claim: Claim, issued: IssuedTokens) -> Ending:
    """How the attempt ended that brought `issued`."""
    if not issued.minted:
        return Ending.REFRESHED
    if claim.was_in_doubt:
        return Ending.MINTED_IN_DOUBT
    return Ending.MINTED if claim.refresh_token is None else Ending.MINTED_AFTER_REFUSAL


def next_generation(stored_generation: int, claim: Claim) -> int:
    """The generation of the pair that `claim` brought: higher than any that the database or the asker has seen."""
    return max(stored_generation, claim.generation) + 1


def taken_back(stored_generation: int, claim: Claim, *, in_doubt: bool) -> int:
    """How many presentations of the stored generation did not count, once `claim` has ended without a pair: 0 or 1."""
    is_its_own = stored_generation == claim.install.generation
    return int(claim.presentations > 0 and is_its_own and not in_doubt)


def unkept(claim: Claim, issued: IssuedTokens) -> Holding:
    """What the pair that `claim` brought makes of the install, as long as the store can't be told of it."""
    generation = next_generation(claim.install.generation, claim)
    end = issued.refresh_token_expires_in
    due = due_after(issued.expires_in, claim.key, generation, end)
    validity = Validity(
        issued_at=issued.requested_at,
        expires_at=issued.requested_at + issued.expires_in,
        refresh_due_at=issued.requested_at + due,
        refresh_token_expires_at=issued.requested_at + end if end is not None else None,
    )
    install = replace(
        claim.install,
        company_id=issued.company_id or claim.install.company_id,
        state=after(claim.install.state, InstallEvent.PAIR_STORED),
        generation=generation,
        validity=validity,
        in_doubt=False,
        attempt=claim.attempt,
        claim_ends_at=None,
        exchange_owed=False,
        rejected=False,
        failure=None,
        fetched_in=claim.traceparent,
    )
    return Holding(install, issued.access_token, issued.token_type)


@dataclass(frozen=True, slots=True)
class Resolution:
    """How an attempt ended that brought no pair.

    Attributes:
        kind: see ProviderFault.kind, or Ending.SUPERSEDED, which is no failure and is not counted as one.
        retry_in: the wait before the next attempt for a due token.
        in_doubt: whether the next attempt must not present the stored refresh token.
        event: what it means for the install's state; None if nothing. An uninstall destroys the tokens.
    """

    kind: str
    retry_in: timedelta
    in_doubt: bool
    event: InstallEvent | None = None
