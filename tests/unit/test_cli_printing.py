"""How the command line prints: tables that fit, and lengths of time as people say them."""

from datetime import timedelta

import pytest

from broker.cli.printing import Table, roughly


def test_columns_fit_the_widest_cell_of_a_page_and_of_those_before() -> None:
    """A list of many pages is printed page by page, under one header, and stays in line."""
    table = Table("ID", "STATE")
    assert list(table.lines([["1000001", "ACTIVE"], ["2", "UNINSTALLED"]])) == [
        "ID       STATE",
        "1000001  ACTIVE",
        "2        UNINSTALLED",
    ]
    assert list(table.lines([["3", "ACTIVE"]])) == ["3        ACTIVE"]


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(minutes=5), "5 min 0 s"),
        (timedelta(hours=23, minutes=59, seconds=58), "23 h 59 min"),
        (timedelta(days=29, seconds=1), "29 d 0 h"),
    ],
)
def test_length_is_said_in_its_two_largest_units(length: timedelta, said: str) -> None:
    """Whether it is minutes or days is what decides whom to wake; the seconds beside days are noise."""
    assert roughly(length) == said
