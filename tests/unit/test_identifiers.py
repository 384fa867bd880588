"""Identifiers: what can be the id of an app, an install or a company."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import InvalidField
from broker.domain.identifiers import MAX_ID_CHARACTERS, InstallKey, checked_id

VISIBLE_ASCII = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
IMPOSSIBLE = {
    "empty": "",
    "too long": "7" * (MAX_ID_CHARACTERS + 1),
    "huge": "7" * 10_000_000,
    "blank": " ",
    "blank inside": "96 931",
    "newline at the end": "96931\n",
    "line in a log": "96931\nlevel=error",
    "terminal code": "\x1b[31m96931",
    "NUL": "96931\0",
    "DEL": "96931\x7f",
    "accent": "é",
    "Arabic digits": "٩٦٩٣١",
    "full-width digits": "\N{FULLWIDTH DIGIT NINE}6931",
    "zero-width space": "96931\u200b",
    "half a surrogate pair": "\ud800",
}


@given(VISIBLE_ASCII)
def test_visible_ascii_is_an_id(value: str) -> None:
    """Ids are strings, whatever Envoy's look like today."""
    assert checked_id(value, "install_id") == value


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_f47_impossible_id_is_refused_by_the_name_of_its_field(kind: str) -> None:
    """The text names the field and never repeats what was sent, so a log line stays one line."""
    value = IMPOSSIBLE[kind]
    with pytest.raises(InvalidField) as caught:
        checked_id(value, "install_id")
    assert caught.value.field == "install_id"
    assert str(caught.value) == f"install_id {caught.value.problem}"
    assert not value.strip() or value not in str(caught.value)
    assert str(caught.value).isprintable()


def test_longest_id_is_accepted() -> None:
    """The limit itself is allowed."""
    assert checked_id("x" * MAX_ID_CHARACTERS, "plugin_id")


def test_key_is_a_pair_of_names() -> None:
    """The hot path looks keys up by a plain pair, without making one."""
    assert {InstallKey("5024", "96931"): "found"}["5024", "96931"] == "found"  # type: ignore[index]  # the point
