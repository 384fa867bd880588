"""Token: an access token of Envoy's, that can't slip into a log."""

from typing import Final, NoReturn

Seconds = float
MASK: Final = "********"


class Token:
    """An access token, valid when it was handed out. Its value shows itself only by `reveal()`.

    `str`, `repr` and `format` give a mask; pickling, copying and JSON fail.

    Attributes:
        type: as Envoy named it, "Bearer".
        generation: counts the token sets of the install; a higher one is newer. Log it in place of the value.
        install_id: the install.
        company_id: the company whose data it opens, "" if Envoy did not say.
        usable_until: the moment of `time.monotonic()` from which it must not be used.
    """

    __slots__ = ("_value", "company_id", "generation", "install_id", "type", "usable_until")

    def __init__(
        self,
        value: str,
        *,
        token_type: str,
        generation: int,
        install_id: str,
        company_id: str,
        usable_until: Seconds,
    ) -> None:
        self._value = value
        self.type = token_type
        self.generation = generation
        self.install_id = install_id
        self.company_id = company_id
        self.usable_until = usable_until

    def reveal(self) -> str:
        """The token itself, for the request to Envoy, and for nothing else."""
        return self._value

    def __repr__(self) -> str:
        return (
            f"Token({MASK}, type={self.type!r}, install_id={self.install_id!r}, generation={self.generation})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Token can't be pickled or copied out of the process")


def authorization(token: Token) -> str:
    """The value of the header Authorization. A secret."""
    return f"{token.type} {token.reveal()}"
