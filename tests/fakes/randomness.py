"""Jitter that a test can foresee."""


class FakeRandomness:
    """The Randomness port: always the same number, which the test may change."""

    def __init__(self, value: float = 0.5) -> None:
        self.value = value

    def fraction(self) -> float:
        """The number that the test has set, in [0, 1)."""
        return self.value
