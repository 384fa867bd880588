"""The Retry-After header (RFC 9110 section 10.2.3)."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_WAIT: Final = timedelta(hours=1)

# Longer numbers are not read: no wait that is asked for in earnest needs them.
_SECONDS: Final = re.compile(r"\s*(\d{1,18})\s*", re.ASCII)


def read_retry_after(value: str | None, date: str | None, requested_at: datetime) -> timedelta | None:
    """The wait that is asked for, at most an hour.

    A date counts from the answer's own Date, so that Envoy's clock need not agree with ours, or else from
    `requested_at`. None if it can't be read or asks for no wait: the broker's own back-off then holds.
    """
    if value is None:
        return None
    if seconds := _SECONDS.fullmatch(value):
        wait = timedelta(seconds=min(float(seconds[1]), LONGEST_WAIT.total_seconds()))
    elif (until := _http_date(value)) is not None:
        wait = until - (_http_date(date or "") or requested_at)
    else:
        return None
    return min(wait, LONGEST_WAIT) if wait > timedelta(0) else None


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
