"""Token: no text of it shows its value."""

import copy
import json
import logging
import pickle
from collections.abc import Callable

import pytest

from clients.python.tests.test_memory import token
from tokenbroker.client import Token
from tokenbroker.client.token import authorization

TEXTS: dict[str, Callable[[Token], str]] = {
    "str": str,
    "repr": repr,
    "format": "{}".format,
    "percent": lambda shown: "%s %r" % (shown, shown),  # noqa: UP031 - one of the ways
    "in a list": lambda shown: str([shown]),
    "in an error": lambda shown: str(KeyError(shown)),
    "json by str": lambda shown: json.dumps(shown, default=str),
    "a log line": lambda shown: logging.LogRecord("", 0, "", 0, "%s", (shown,), None).getMessage(),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_text_shows_the_value(text: Callable[[Token], str]) -> None:
    """Tokens end in logs by the ways that nobody thought of."""
    shown = token()
    assert shown.reveal() not in text(shown)
    assert "generation=1" in text(shown)


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars])
def test_token_does_not_leave_unseen(act: Callable[[Token], object]) -> None:
    """What copies an object's insides would copy the value along."""
    with pytest.raises(TypeError):
        act(token())


def test_authorization_is_of_the_tokens_own_type() -> None:
    """As Envoy named it."""
    assert authorization(token()) == "Bearer secret-a-1"
