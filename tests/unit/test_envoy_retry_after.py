"""How long Envoy asks us to wait."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.envoy.retry_after import LONGEST_WAIT, read_retry_after

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def http_date(moment: datetime) -> str:
    """As RFC 9110 writes it."""
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("1", timedelta(seconds=1)),
        (" 120 ", timedelta(seconds=120)),
        ("999999999999", LONGEST_WAIT),
        (http_date(NOW + timedelta(seconds=90)), timedelta(seconds=90)),
        (http_date(NOW + timedelta(days=9)), LONGEST_WAIT),
        ("Sun, 01 Nov 2026 12:00:10 -0000", timedelta(seconds=10)),
    ],
)
def test_wait_is_honoured_up_to_an_hour(value: str, wait: timedelta) -> None:
    """Longer, and a slip of Envoy's would silence every replica for days."""
    assert read_retry_after(value, None, NOW) == wait


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "0",
        "-5",
        "1.5",
        "soon",
        "1, 2",
        "\u0661",
        "9" * 5000,
        http_date(NOW),
        "Sun, 99 Nov 2026 12:00:00 GMT",
    ],
)
def test_no_wait_or_an_unreadable_one_leaves_our_own_back_off(value: str | None) -> None:
    """None is not zero: zero would ask again at once."""
    assert read_retry_after(value, None, NOW) is None


def test_date_counts_from_envoys_own_clock() -> None:
    """A clock five minutes off must not turn 30 seconds into minutes, or into nothing."""
    envoys_now = NOW - timedelta(minutes=5)
    asked = http_date(envoys_now + timedelta(seconds=30))
    assert read_retry_after(asked, http_date(envoys_now), NOW) == timedelta(seconds=30)


@given(value=st.text(), date=st.none() | st.text())
def test_no_header_raises(value: str, date: str | None) -> None:
    """A limit that can't be read is still a limit."""
    wait = read_retry_after(value, date, NOW)
    assert wait is None or timedelta(0) < wait <= LONGEST_WAIT
