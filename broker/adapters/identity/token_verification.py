"""Whether a JSON Web Token is one of ours to believe: pure, `now` as an argument.

RFC 7519, and the practices of RFC 8725: the algorithms are the configuration's and the key's, never the token's choice;
nothing that a token claims is looked at before its signature is verified, save which key that needs.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import jwt

from broker.adapters.identity.jwks import ASYMMETRIC_ALGORITHMS, VerificationKey
from broker.adapters.identity.refusals import Refusal
from broker.domain.errors import CallerUnauthenticated

MAX_TOKEN_CHARACTERS: Final = 8 * 1024
MAX_SUBJECT_CHARACTERS: Final = 512
# For clocks of issuer and broker that differ; a token's end gets none, since callers renew well ahead of it.
LEEWAY: Final = timedelta(seconds=30)
DEFAULT_ALGORITHMS: Final = frozenset({"RS256", "ES256"})

_COMPACT_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_VISIBLE_ASCII: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_SUBJECT_CHARACTERS}}}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
# The first that fits PyJWT's error.
_REFUSALS: Final[tuple[tuple[type[jwt.PyJWTError], Refusal], ...]] = (
    (jwt.InvalidSignatureError, Refusal.BAD_SIGNATURE),
    (jwt.InvalidAlgorithmError, Refusal.ALGORITHM_NOT_ALLOWED),
    (jwt.InvalidKeyError, Refusal.ALGORITHM_NOT_ALLOWED),
    (jwt.InvalidAudienceError, Refusal.WRONG_AUDIENCE),
    (jwt.InvalidIssuerError, Refusal.WRONG_ISSUER),
    (jwt.MissingRequiredClaimError, Refusal.MISSING_CLAIM),
    (jwt.PyJWTError, Refusal.MALFORMED_TOKEN),
)


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """Which tokens are believed: of this issuer, for this audience, signed by one of these algorithms."""

    issuer: str
    audience: str
    algorithms: frozenset[str] = DEFAULT_ALGORITHMS

    def __post_init__(self) -> None:
        """Raises ValueError for terms that would believe too much or nothing."""
        if not self.issuer or not self.audience:
            raise ValueError("issuer and audience must not be empty")
        if not self.algorithms or not self.algorithms <= ASYMMETRIC_ALGORITHMS:
            allowed = ", ".join(sorted(ASYMMETRIC_ALGORITHMS))
            raise ValueError(f"the algorithms must be at least one of {allowed}")


class Verified(NamedTuple):
    """What a verified token says."""

    subject: str
    expires_at: datetime


class SigningHeader(NamedTuple):
    """By what a token says that it is signed. Nothing is verified yet."""

    kid: str
    algorithm: str


def read_signing_header(token: str, terms: TokenTerms) -> SigningHeader:
    """The header of a token in compact form.

    Raises:
        CallerUnauthenticated: it has no readable header with a key id and an algorithm of `terms`.
    """
    if not _COMPACT_FORM.fullmatch(token):
        raise CallerUnauthenticated(Refusal.MALFORMED_TOKEN)
    header = _unverified_header(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if header and algorithm not in tuple(terms.algorithms):
        raise CallerUnauthenticated(Refusal.ALGORITHM_NOT_ALLOWED)
    if not isinstance(algorithm, str) or not isinstance(kid, str):
        raise CallerUnauthenticated(Refusal.MALFORMED_TOKEN)
    return SigningHeader(kid, algorithm)


def verify(
    token: str, header: SigningHeader, key: VerificationKey, terms: TokenTerms, now: datetime
) -> Verified:
    """What the token says, if it is to be believed.

    Raises:
        CallerUnauthenticated: it is not.
    """
    if header.algorithm not in key.algorithms:
        raise CallerUnauthenticated(Refusal.ALGORITHM_NOT_ALLOWED)
    claims = _signed_claims(token, header.algorithm, key, terms)
    if isinstance(claims, Refusal):
        # Raised out here, so that no cause, which would hold the token, hangs on it.
        raise CallerUnauthenticated(claims)
    return _believed(claims, now)


def _unverified_header(token: str) -> Mapping[str, object]:
    """The header; nothing that can't be read. Only its own part is decoded: most forged tokens get no further."""
    head, _, _ = token.partition(".")
    try:
        return jwt.get_unverified_header(f"{head}..")
    except jwt.PyJWTError:
        return {}


def _signed_claims(
    token: str, algorithm: str, key: VerificationKey, terms: TokenTerms
) -> Mapping[str, object] | Refusal:
    """What is claimed, or why it is not believed. `algorithm`: both `terms` and `key` have it."""
    try:
        return jwt.decode(
            token,
            key.public_key,
            algorithms=[algorithm],
            audience=terms.audience,
            issuer=terms.issuer,
            options={
                "require": ["aud", "iss", "exp", "sub"],
                "enforce_minimum_key_length": True,
                # Judged below, by the broker's own clock.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.PyJWTError as error:
        return next(refusal for kind, refusal in _REFUSALS if isinstance(error, kind))


def _believed(claims: Mapping[str, object], now: datetime) -> Verified:
    expires_at = _moment(claims["exp"])
    if expires_at <= now:
        raise CallerUnauthenticated(Refusal.TOKEN_EXPIRED)
    if any(_moment(claims[name]) > now + LEEWAY for name in ("nbf", "iat") if name in claims):
        raise CallerUnauthenticated(Refusal.TOKEN_NOT_YET_VALID)
    subject = claims["sub"]
    if not isinstance(subject, str) or not _VISIBLE_ASCII.fullmatch(subject):
        raise CallerUnauthenticated(Refusal.NAME_MALFORMED)
    return Verified(subject, expires_at)


def _moment(value: object) -> datetime:
    """A NumericDate (RFC 7519, section 2). What lies beyond the calendar is its last or its first moment."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CallerUnauthenticated(Refusal.MALFORMED_TOKEN)
    if isinstance(value, float) and math.isnan(value):
        raise CallerUnauthenticated(Refusal.MALFORMED_TOKEN)
    return _EPOCH + timedelta(seconds=min(max(value, 0), _LAST_SECOND))
