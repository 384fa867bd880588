"""What a locked row answers to who asks for a claim on it. What it allows is decided in domain/claims.py."""

from datetime import datetime, timedelta
from uuid import uuid4

from broker.adapters.postgres.rows import (
    REFRESH_TOKEN,
    Row,
    claim_traceparent_of,
    holding_of,
    install_of,
    open_token,
    presentations_of,
    refuse_foreign,
)
from broker.domain.claims import (
    BackingOff,
    Claim,
    ClaimHeld,
    ClaimTerms,
    Verdict,
    confirmed_company,
    decide,
    presentable,
)
from broker.domain.errors import InstallNotFound, ReauthorizationRequired
from broker.domain.installs import Holding, Install
from broker.ports import Cipher


def answer_of(
    row: Row, terms: ClaimTerms, asked_at: datetime, cipher: Cipher
) -> Claim | Holding | ClaimHeld | BackingOff:
    """What InstallStore.claim returns, or raises; a Claim is still to be written."""
    install = install_of(row, asked_at)
    held_until = row["claim_expires_at"]
    ends_in = held_until - row["now"] if held_until is not None else timedelta(0)
    verdict = decide(
        install,
        terms,
        webhook_digest=row["webhook_digest"],
        claim_expires_at=asked_at + ends_in if held_until is not None else None,
        now=asked_at,
    )
    match verdict:
        case Verdict.GONE:
            raise InstallNotFound
        case Verdict.REAUTHORIZE:
            raise ReauthorizationRequired
        case Verdict.ADOPT:
            return holding_of(row, asked_at, cipher)
        case Verdict.WAIT:
            return ClaimHeld(ends_in, claim_traceparent_of(row))
        case Verdict.BACK_OFF if install.failure is not None:
            holding = holding_of(row, asked_at, cipher)
            return BackingOff(holding, install.failure, install.failure.retry_at - asked_at)
    return _claim_on(row, install, terms, asked_at, cipher)


def _claim_on(row: Row, install: Install, terms: ClaimTerms, asked_at: datetime, cipher: Cipher) -> Claim:
    refuse_foreign(row, cipher)
    may_present = presentable(install, terms, asked_at)
    refresh_token = open_token(row, REFRESH_TOKEN, cipher) if may_present else None
    return Claim(
        install=install,
        attempt=install.attempt + 1,
        claim_id=uuid4(),
        owner=terms.owner,
        generation=max(install.generation, terms.seen_generation or 0),
        began_at=asked_at,
        expires_at=asked_at + terms.life,
        refresh_token=refresh_token,
        presentations=presentations_of(row) + 1 if refresh_token is not None else 0,
        traceparent=terms.traceparent,
        purpose=terms.purpose,
        company_id=confirmed_company(install),
        webhook_digest=terms.webhook_digest,
    )
