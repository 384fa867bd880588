"""Installs and their tokens.

All times are on the broker's clock (`Clock.now`); the store translates from the database's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret
from broker.domain.states import InstallState


@dataclass(frozen=True, slots=True)
class Validity:
    """The times of one token set.

    Attributes:
        issued_at: just before the request that brought it was sent.
        expires_at: the end of the access token.
        refresh_due_at: from here on a refresh is due (see freshness.py).
        refresh_token_expires_at: the end of the refresh token; None without one, or if Envoy did not say.
    """

    issued_at: datetime
    expires_at: datetime
    refresh_due_at: datetime
    refresh_token_expires_at: datetime | None

    @property
    def lifetime(self) -> timedelta:
        """How long the access token lives in all."""
        return self.expires_at - self.issued_at


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt since the last success.

    Attributes:
        kind: see ProviderFault.kind.
        count: failures in a row.
        failed_at: when the last one failed.
        retry_at: no attempt that only a due token asks for begins before this.
    """

    kind: str
    count: int
    failed_at: datetime
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """The last attempt that has ended.

    Attributes:
        ending: a value of `claims.Ending`, or the kind of a fault (see ProviderFault.kind).
        ended_at: when that was stored.
    """

    ending: str
    ended_at: datetime


class Standing(NamedTuple):
    """What decides whether a token that somebody holds may still be used, and whether there is a newer one."""

    generation: int
    state: InstallState
    rejected: bool


@dataclass(frozen=True, slots=True)
class Install:
    """What the broker knows of an install, without any token.

    Attributes:
        company_id: "" until Envoy has said it.
        generation: counts the token sets stored so far; 0 before the first.
        validity: the times of the newest token set; None without one.
        in_doubt: an attempt runs, or ended with nobody knowing its outcome.
        attempt: the number of the newest attempt.
        claim_ends_at: when the claim of the attempt under way ends; None if nobody has one.
        exchange_owed: a verified route webhook came after a refusal or an uninstall, and Envoy has not answered yet.
        rejected: a caller reported that Envoy answered 401 to the newest token: it is handed out no more.
        last_attempt: how the last attempt ended; None before the first.
        fetched_in: the W3C traceparent of the refresh that stored the newest pair; "" if it had none.
    """

    key: InstallKey
    company_id: str
    state: InstallState
    generation: int
    validity: Validity | None
    in_doubt: bool
    attempt: int
    claim_ends_at: datetime | None
    exchange_owed: bool
    rejected: bool
    failure: Failure | None
    last_attempt: EndedAttempt | None
    created_at: datetime
    updated_at: datetime
    fetched_in: str = ""

    @property
    def standing(self) -> Standing:
        """How it stands."""
        return Standing(self.generation, self.state, self.rejected)

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed, or Envoy wants the company to go through the app's setup again."""
        return self.failure is not None or self.state is InstallState.REAUTHORIZATION_REQUIRED


@dataclass(frozen=True, slots=True)
class Holding:
    """An install with the access token it holds, if it holds one. Never the refresh token."""

    install: Install
    access_token: Secret | None
    token_type: str


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """A pair as Envoy issued it.

    Attributes:
        requested_at: taken just before the request was sent: lifetimes count from here.
        expires_in: the access token's lifetime, already clamped to something sane.
        refresh_token: None if the answer had none.
        minted: by the grant `plugin_install`. Then whatever refresh token was stored before is void; after
            a refresh it stays, if the answer brought no other.
        refresh_token_expires_in: None if Envoy did not say.
        company_id: "" if Envoy did not say.
    """

    access_token: Secret
    token_type: str
    requested_at: datetime
    expires_in: timedelta
    refresh_token: Secret | None
    refresh_token_expires_in: timedelta | None
    company_id: str
    minted: bool


@dataclass(frozen=True, slots=True)
class InstallFilter:
    """Which installs to list; None does not filter. `failing`: only those that are (see Install.failing)."""

    plugin_id: str | None = None
    company_id: str | None = None
    state: InstallState | None = None
    failing: bool = False


@dataclass(frozen=True, slots=True)
class DueInstall:
    """An install that wants an attempt, as the sweep saw it: others may have been there since."""

    key: InstallKey
    generation: int
    overdue: timedelta
