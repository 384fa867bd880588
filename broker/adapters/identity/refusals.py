"""Why a caller was not recognised, and the log of it.

The words are fixed: nothing that a caller wrote gets into the log, and anybody may make us write.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog

from broker.ports import Clock

LINES_PER_WINDOW: Final = 5
WINDOW: Final = timedelta(seconds=10)

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

log = structlog.get_logger(__name__)


class Refusal(StrEnum):
    """The reasons, as CallerUnauthenticated.why and the log have them."""

    NO_CERTIFICATE = "no_certificate"
    CERTIFICATE_WITHOUT_NAME = "certificate_without_name"
    SEVERAL_SPIFFE_IDS = "several_spiffe_ids"
    NAME_MALFORMED = "name_malformed"
    NO_TOKEN = "no_token"
    TOKEN_TOO_LARGE = "token_too_large"
    MALFORMED_TOKEN = "malformed_token"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    UNKNOWN_KEY = "unknown_key"
    KEYS_UNAVAILABLE = "keys_unavailable"
    BAD_SIGNATURE = "bad_signature"
    MISSING_CLAIM = "missing_claim"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"


@dataclass(slots=True)
class _Window:
    began_at: datetime = _LONG_AGO
    lines: int = 0
    left_out: int = 0


class RefusalLog:
    """A line for each refusal, but only so many of one reason in a window; the next one then tells how many were not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: defaultdict[str, _Window] = defaultdict(_Window)

    def note(self, why: str) -> None:
        """Log the refusal, or count it. `why`: one of the fixed words, since each has a window of its own."""
        window, now = self._windows[why], self._clock.now()
        if now - window.began_at >= WINDOW:
            window.began_at, window.lines = now, 0
        if window.lines >= LINES_PER_WINDOW:
            window.left_out += 1
            return
        window.lines += 1
        log.warning("caller.refused", reason=str(why), left_out=window.left_out)
        window.left_out = 0
