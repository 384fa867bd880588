"""What a scenario expects, and what came."""

from collections.abc import Mapping
from typing import Any, Final

from clients.conformance.adapter import Answer

# Clocks and schedulers are not exact; less than this is no difference.
TOLERANCE_SECONDS: Final = 0.6


class UnmetError(Exception):
    """The client did not do what the table says."""


def compare_error(expected: Mapping[str, Any], answer: Answer) -> None:
    """Raises UnmetError: the answer is not the error that was expected."""
    if "cancelled" in expected:
        if answer != {"cancelled": True}:
            raise UnmetError(f"expected that it was cancelled, got {answer}")
        return
    error = answer.get("error")
    if error is None:
        raise UnmetError(f"expected {expected['error']}, got {answer}")
    wanted = {"reason": expected["error"]} | {k: expected[k] for k in ("code",) if k in expected}
    if any(error.get(key) != value for key, value in wanted.items()):
        raise UnmetError(f"expected {wanted}, got {error}")
    if "retry_after_seconds" in expected:
        got = error.get("retry_after_seconds")
        if got is None or abs(got - expected["retry_after_seconds"]) > TOLERANCE_SECONDS:
            raise UnmetError(f"expected a retry after {expected['retry_after_seconds']} s, got {error}")


def compare_response(expected: Mapping[str, Any], answer: Answer) -> None:
    """Raises UnmetError: the answer to a request is not the status, or the error, that was expected."""
    if "status" not in expected:
        compare_error(expected, answer)
    elif answer.get("status") != expected["status"]:
        raise UnmetError(f"expected {expected}, got {answer}")
