"""Errors: whose fault, when to try again, and a text that is fit for everyone's eyes."""

import inspect
from datetime import timedelta

import pytest

from broker.domain import errors
from broker.domain.secret import Secret

PLAIN = "a-token-that-nobody-may-see"
SOON = timedelta(seconds=3)
EVERY_ERROR = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, Exception) and each.__module__ == errors.__name__
]


def made(kind: type[Exception]) -> Exception:
    """An error of a kind, as the broker makes it; a Secret wherever a careless hand could put one."""
    if kind is errors.InvalidField:
        return kind("min_ttl", "must not be negative")
    if issubclass(kind, errors.RetryableError):
        return kind("Envoy can't be reached", SOON)
    if kind is errors.CallerUnauthenticated:
        return kind("no_credentials")
    if kind is errors.Limited:
        return kind(SOON)
    if issubclass(kind, errors.ProviderFault) and kind is not errors.CompanyMismatch:
        return kind("timeout")
    return kind() if kind.__init__ is not Exception.__init__ else kind(Secret(PLAIN))


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_error_s_text_is_one_printable_line_without_secrets(kind: type[Exception]) -> None:
    """Texts go to callers, logs and traces alike (P5)."""
    for text in (str(made(kind)), repr(made(kind))):
        assert PLAIN not in text
        assert text.isprintable()
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_is_a_caller_s_answer_or_a_provider_s_fault(kind: type[Exception]) -> None:
    """A service lets BrokerErrors through, and must have handled every ProviderFault."""
    assert issubclass(kind, errors.BrokerError) != issubclass(kind, errors.ProviderFault)


def test_unknown_and_forbidden_look_the_same() -> None:
    """P6: there is one InstallNotFound, and nothing can be put into it."""
    assert str(errors.InstallNotFound()) == str(errors.InstallNotFound())
    with pytest.raises(TypeError):
        errors.InstallNotFound("forbidden")  # type: ignore[call-arg]  # the mistake under test


@pytest.mark.parametrize("wait", [timedelta(seconds=-5), timedelta(0), SOON])
def test_retry_after_is_never_in_the_past(wait: timedelta) -> None:
    """RetryInfo with a negative delay is no delay that a client knows."""
    assert errors.StoreUnavailable("away", wait).retry_after == max(wait, timedelta(0))


def test_invalid_field_names_the_field_and_the_problem() -> None:
    """The API puts both into its error details."""
    error = errors.InvalidField("min_ttl", "must not be negative")
    assert (error.field, error.problem) == ("min_ttl", "must not be negative")
    assert str(error) == "min_ttl must not be negative"
