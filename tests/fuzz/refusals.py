"""What is asked of every refusal."""


def assert_holds_no_input(error: Exception) -> None:
    """No other error hangs on it: that of a parser holds what it was given, and a log would print it."""
    assert error.__context__ is None
    assert error.__cause__ is None
