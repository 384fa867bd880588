"""The fields of a token, as Envoy's token endpoint and its webhooks both have them, read forgivingly.

A token that was issued is worth more than the fields beside it: a field that makes no sense is replaced by
something cautious, and never costs the token.
"""

import re
from datetime import timedelta
from typing import Final

from broker.domain.errors import InvalidField
from broker.domain.identifiers import checked_id
from broker.domain.lifetimes import DEFAULT_LIFETIME, LONGEST_LIFETIME

DEFAULT_TOKEN_TYPE: Final = "Bearer"

# A token just issued that is said to be dead already: refreshed soon, but not at every call.
LIFETIME_OF_THE_DEAD: Final = timedelta(minutes=1)
SHORTEST_LIFETIME: Final = timedelta(seconds=1)

_NUMBER: Final = re.compile(r"\s*([+-]?\d{1,18}(?:\.\d{1,18})?)\s*", re.ASCII)
# RFC 9110 section 11.1: an auth-scheme is a token; the bound is ours.
_AUTH_SCHEME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}", re.ASCII)


def token_type(value: object) -> str:
    """How the token is presented. "Bearer" unless Envoy names another scheme.

    Another scheme is passed on as said: a caller that can't use it must learn so, rather than be told
    "Bearer". What can't be a scheme would break the caller's header, and says nothing.
    """
    if not isinstance(value, str) or not _AUTH_SCHEME.fullmatch(value):
        return DEFAULT_TOKEN_TYPE
    return DEFAULT_TOKEN_TYPE if value.lower() == DEFAULT_TOKEN_TYPE.lower() else value


def access_token_lifetime(value: object) -> timedelta:
    """`expires_in`, in seconds: exactly what was said if it can be, from 1 second to 10 years."""
    seconds = _believable_seconds(value)
    if seconds is None:
        return DEFAULT_LIFETIME
    if seconds <= 0:
        return LIFETIME_OF_THE_DEAD
    return max(timedelta(seconds=seconds), SHORTEST_LIFETIME)


def refresh_token_lifetime(value: object) -> timedelta | None:
    """`refresh_token_expires_in`, in seconds; None if it makes no sense: presenting the token will tell."""
    seconds = _believable_seconds(value)
    if seconds is None or seconds <= 0:
        return None
    # Of less than a microsecond nothing is left.
    return timedelta(seconds=seconds) or None


def company_id(value: object) -> str:
    """A company's id, a number in some places and a string in others; "" if it is neither."""
    try:
        return checked_id(identifier(value) or "", "company_id")
    except InvalidField:
        return ""


def identifier(value: object) -> str | None:
    """An id as a string, unchecked; None if `value` is neither a string nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)


def _believable_seconds(value: object) -> float | None:
    if isinstance(value, str):
        written = _NUMBER.fullmatch(value)
        value = float(written[1]) if written else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN is not believable either: no comparison with it holds.
    return value if value <= LONGEST_LIFETIME.total_seconds() else None
