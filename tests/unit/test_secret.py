"""Secret: no way of printing one shows it (P5)."""

import copy
import dataclasses
import json
import logging
import pickle
import string
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.secret import LONG_ENOUGH_TO_SHOW_TAIL, MASK, VISIBLE_TAIL, Secret

PLAIN = "an-access-token-that-nobody-may-see"
SECRET = Secret(PLAIN)


@dataclasses.dataclass(frozen=True)
class Holder:
    """What holds secrets in the broker: a dataclass."""

    token: Secret
    tokens: tuple[Secret, ...]


class FailedWithSecretError(Exception):
    """An error that was given a secret by mistake."""


def fail_with(token: Secret) -> None:
    """Fail, and take the token along."""
    raise FailedWithSecretError(token)


SHOWN = {
    "str": str(SECRET),
    "repr": repr(SECRET),
    "ascii": ascii(SECRET),
    "format": format(SECRET, ">80"),
    "percent s": "%s" % SECRET,  # noqa: UP031  # the old ways must not show it either
    "percent r": "%r" % SECRET,  # noqa: UP031  # likewise
    "str.format": "{} {!r} {!s:>60}".format(SECRET, SECRET, SECRET),  # noqa: UP032  # likewise
    "f-string": f"{SECRET} {SECRET!r} {SECRET:>60}",
    "template": string.Template("$token").substitute(token=SECRET),
    "in a list": str([SECRET]),
    "in a dict": str({"token": SECRET, SECRET: 1}),
    "dataclass": repr(Holder(SECRET, (SECRET,))),
    "exception": repr(FailedWithSecretError(SECRET)) + str(FailedWithSecretError(SECRET)),
    "json by str": json.dumps({"token": SECRET}, default=str),
    "log record": logging.LogRecord("x", logging.INFO, "x", 1, "token %s", (SECRET,), None).getMessage(),
    "masked": SECRET.masked(),
}


@pytest.mark.parametrize("way", SHOWN)
def test_secret_does_not_show_itself(way: str) -> None:
    """Each of these ends up in logs some day."""
    assert PLAIN not in SHOWN[way]
    assert MASK in SHOWN[way]


def test_traceback_of_an_error_that_holds_a_secret_does_not_show_it() -> None:
    """Locals and arguments are printed by many handlers of errors."""
    with pytest.raises(FailedWithSecretError) as caught:
        fail_with(Secret(PLAIN))
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "fail_with" in "".join(report.format())
    assert PLAIN not in "".join(report.format())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_can_not_be_pickled(protocol: int) -> None:
    """A pickle is a plain copy on its way to a disk or another process."""
    with pytest.raises(TypeError):
        pickle.dumps(Holder(SECRET, ()), protocol)


def test_secret_can_not_be_copied_or_taken_apart() -> None:
    """dataclasses.asdict copies; what it gives is made for printing."""
    for attempt in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(SECRET)
    with pytest.raises(TypeError):
        dataclasses.asdict(Holder(SECRET, ()))


def test_secret_is_no_json() -> None:
    """A token must not slip into an answer or an audit record."""
    with pytest.raises(TypeError):
        json.dumps(SECRET)


def test_secret_is_no_string_and_has_no_attributes() -> None:
    """What takes strings takes no Secret; nothing can be hung on one."""
    assert not issubclass(Secret, str)
    assert not hasattr(SECRET, "__dict__")
    with pytest.raises(TypeError):
        "Bearer " + SECRET  # type: ignore[operator]  # the mistake under test


@pytest.mark.parametrize("wrong", [None, b"bytes", 7, SECRET])
def test_secret_is_made_from_a_string(wrong: object) -> None:
    """A Secret of None would be sent to Envoy as "None"."""
    with pytest.raises(TypeError, match="string"):
        Secret(wrong)  # type: ignore[arg-type]  # the mistake under test


def test_empty_secret_is_false() -> None:
    """An empty signing key is the mistake that lets everyone in."""
    assert not Secret("")
    assert SECRET


@given(st.text(), st.text())
def test_secrets_are_equal_as_their_values_are(one: str, other: str) -> None:
    """Equality is compared in constant time, and agrees with hash."""
    assert (Secret(one) == Secret(other)) == (one == other)
    assert hash(Secret(one)) == hash(Secret(one))


def test_secret_is_equal_to_no_string() -> None:
    """Else a comparison by mistake would take its time, and leak."""
    assert SECRET != PLAIN
    assert SECRET.reveal() == PLAIN


@given(st.text(alphabet=string.ascii_letters, max_size=40))
def test_mask_shows_at_most_the_tail_of_a_long_secret(value: str) -> None:
    """Enough for a person to tell two tokens apart, too little to use."""
    shown = Secret(value).masked().removeprefix(MASK)
    assert shown == (value[-VISIBLE_TAIL:] if len(value) >= LONG_ENOUGH_TO_SHOW_TAIL else "")


def test_half_a_surrogate_pair_is_refused_without_showing_the_rest() -> None:
    """UTF-8 can't write it, and the error of trying would carry the whole secret."""
    with pytest.raises(ValueError, match="UTF-8") as caught:
        Secret("sensitive\ud800")
    assert "sensitive" not in repr(caught.value)
    assert caught.value.__context__ is None
