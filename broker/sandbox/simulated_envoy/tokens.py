"""The make-believe tokens: what the issuer remembers of each, and what it hands out."""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

FINGERPRINT_HEX_DIGITS = 16


def digest(token: str) -> str:
    """SHA-256 in hex: the only form in which a token is remembered."""
    return hashlib.sha256(token.encode()).hexdigest()


def fingerprint(token: str) -> str:
    """A prefix of the digest: names a token without giving it away."""
    return digest(token)[:FINGERPRINT_HEX_DIGITS]


class InstallKey(NamedTuple):
    """One app at one company or location."""

    plugin_id: str
    install_id: str


@dataclass
class TokenFamily:
    """Every token that descends from one mint."""

    plugin_id: str
    install_id: str | None
    """None for the app's own tokens (client_credentials)."""
    company_id: str
    revoked_because: str | None = None


@dataclass
class IssuedToken:
    """One access or refresh token. Times are Unix seconds."""

    family: TokenFamily
    is_refresh: bool
    expires_at: float
    spent_at: float | None = None
    """When a refresh token was first exchanged for another one."""


@dataclass(frozen=True)
class TokenPair:
    """What a grant answers. Lifetimes in seconds; no refresh token in a webhook's ``auth``."""

    access_token: str = field(repr=False)
    expires_in: int
    refresh_token: str | None = field(repr=False)
    refresh_token_expires_in: int | None
    company_id: str

    def document(self) -> dict[str, object]:
        """The documented JSON shape."""
        return {
            "token_type": "Bearer",
            "access_token": self.access_token,
            "expires_in": self.expires_in,
            "refresh_token": self.refresh_token,
            "refresh_token_expires_in": self.refresh_token_expires_in,
            "state": None,
            "company_id": self.company_id,
        }
