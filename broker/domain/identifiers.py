"""The names of apps, installs and companies."""

import re
from typing import Final, NamedTuple

from broker.domain.errors import InvalidField

MAX_ID_CHARACTERS: Final = 128
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)


class InstallKey(NamedTuple):
    """What names an install everywhere: in the API, in Postgres, in the cache."""

    plugin_id: str
    install_id: str


def checked_id(value: str, field: str) -> str:
    """`value`, if it can be an id: 1 to 128 visible ASCII characters.

    Raises:
        InvalidField: names `field`, never the value.
    """
    if not value:
        raise InvalidField(field, "must not be empty")
    if len(value) > MAX_ID_CHARACTERS:
        raise InvalidField(field, f"must have at most {MAX_ID_CHARACTERS} characters")
    if not _VISIBLE_ASCII.fullmatch(value):
        raise InvalidField(field, "must consist of visible ASCII characters")
    return value
