"""Secret: a string that can't slip into a log."""

import hmac
from typing import Final, NoReturn

MASK: Final = "********"
VISIBLE_TAIL: Final = 4
LONG_ENOUGH_TO_SHOW_TAIL: Final = 16


class Secret:
    """A token, client secret or key. Shows itself only by `reveal()`.

    `str`, `repr`, `format` and `%s` give a mask; pickling and JSON fail; equality takes
    constant time. Search the code for `.reveal()` to find every place where one leaves.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError("a Secret holds a string")
        if not _encodable(value):
            raise ValueError("must be text that UTF-8 can write")
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the wire or the cipher, and for nothing else."""
        return self._value

    def masked(self) -> str:
        """A mask that ends in the last characters of a long secret, for a person to tell two apart."""
        if len(self._value) < LONG_ENOUGH_TO_SHOW_TAIL:
            return MASK
        return MASK + self._value[-VISIBLE_TAIL:]

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be pickled or copied out of the process")


def _encodable(value: str) -> bool:
    """Whether no half of a surrogate pair is in it: the error of encoding it later would carry the value."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
