"""Logs: neither format shows a secret, not even when an error is logged with its traceback (P5)."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from broker.domain.secret import MASK, Secret
from broker.telemetry.logs import LogFormat, configure_logging

PLAIN = "an-access-token-that-nobody-may-see"
FORMATS: list[LogFormat] = ["json", "console"]


@pytest.fixture(params=FORMATS)
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the broker's own logging writes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(request.param, "debug")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail_with(token: Secret) -> None:
    """Fail as an adapter would that has just revealed a token."""
    revealed = token.reveal()
    raise ValueError("the answer can't be read" if revealed else "nothing was revealed")


def test_field_of_a_log_line_is_masked(lines: io.StringIO) -> None:
    """The token given as a field, in a container, in a dict."""
    token = Secret(PLAIN)
    structlog.get_logger("a").warning("event", token=token, tokens=[token], more={"token": token})
    assert PLAIN not in lines.getvalue()
    assert MASK in lines.getvalue()


def test_line_of_the_standard_library_s_logging_is_masked(lines: io.StringIO) -> None:
    """Libraries log by `logging`, with % arguments."""
    logging.getLogger("a.library").warning("token %s", Secret(PLAIN), extra={"token": Secret(PLAIN)})
    assert PLAIN not in lines.getvalue()
    assert MASK in lines.getvalue()


@pytest.mark.parametrize("library", ["structlog", "logging"])
def test_logged_traceback_does_not_show_locals(lines: io.StringIO, library: str) -> None:
    """A traceback that prints locals prints every token that a frame had revealed."""
    logger = structlog.get_logger("a") if library == "structlog" else logging.getLogger("a")
    try:
        fail_with(Secret(PLAIN))
    except ValueError:
        logger.exception("failed")
    assert "the answer can't be read" in lines.getvalue()
    assert PLAIN not in lines.getvalue()
