"""What can be a token."""

from typing import Final

from broker.domain.secret import Secret

MAX_TOKEN_CHARACTERS: Final = 16 * 1024


def readable_token(value: object) -> Secret | None:
    """A token that can stand in a header: printable ASCII (RFC 6749 appendix A.12), at most 16 KiB; or None."""
    if not isinstance(value, str) or len(value) > MAX_TOKEN_CHARACTERS:
        return None
    return Secret(value) if value.strip() and value.isascii() and value.isprintable() else None
