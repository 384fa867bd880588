"""What is looked for: secrets, in every form that a secret could be written down in."""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

# Of a long secret its beginning is looked for: whoever wrote down half of it has written it down.
LOOKED_FOR_BYTES: Final = 24
BASE64_BITS: Final = 6
BYTE_BITS: Final = 8
# How many bytes may stand before a secret in what was encoded: after three all repeats itself.
ALIGNMENTS: Final = (0, 1, 2)


@dataclass(frozen=True)
class Mark:
    """A secret, or what all secrets of a kind begin with. Attributes: name: for people."""

    name: str
    value: bytes

    @classmethod
    def of(cls, name: str, value: str) -> "Mark":
        """A mark that is text."""
        return cls(name, value.encode())

    def forms(self) -> frozenset[bytes]:
        """As it is, escaped for JSON and for URLs, in hex, and in Base64 with anything before and behind."""
        value = self.value[:LOOKED_FOR_BYTES]
        text = value.decode("latin-1")
        plain = {value, value.hex().encode(), value.hex().upper().encode(), json.dumps(text)[1:-1].encode()}
        return frozenset(plain | {quote(value, safe="").encode(), quote_plus(value).encode()}) | frozenset(
            _in_base64(value)
        )


def _in_base64(value: bytes) -> Iterator[bytes]:
    for before in ALIGNMENTS:
        begin = -(-before * BYTE_BITS // BASE64_BITS)
        end = (before + len(value)) * BYTE_BITS // BASE64_BITS
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + value)[begin:end]


class Search:
    """A search for marks, whose forms are made once."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        self._forms = [(mark.name, form) for mark in marks for form in mark.forms()]

    def found_in(self, haystack: bytes) -> set[str]:
        """The names of the marks that are in it, in whatever form."""
        return {name for name, form in self._forms if form in haystack}
