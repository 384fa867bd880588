"""A simulated Envoy's books: who holds what, and what its policy says of it. A judge's view, too."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from broker.domain.errors import GrantRefused
from broker.domain.installs import IssuedTokens
from broker.domain.secret import Secret

GRACE: Final = timedelta(seconds=30)


class Rotation(Enum):
    """What becomes of a refresh token once it has been used: see ENVOY's unknowns."""

    NONE = "none"
    GRACE = "grace"
    STRICT = "strict"
    FAMILY_REVOKED = "family_revoked"


@dataclass(slots=True)
class Pair:
    """A pair as Envoy knows it. `is_live`: of the access token, its expiry aside."""

    install_id: str
    access_token: str
    refresh_token: str
    expires_at: datetime
    is_live: bool = True
    used_at: datetime | None = None


@dataclass(slots=True)
class Policy:
    """How this Envoy behaves."""

    rotation: Rotation
    mint_invalidates: bool
    access_life: timedelta = timedelta(seconds=120)
    refresh_life: timedelta = timedelta(hours=2)


@dataclass(slots=True)
class Issuer:
    """Pairs by their tokens. `installed`: the installs that get any."""

    policy: Policy
    company_id: str = "110090"
    installed: set[str] = field(default_factory=set)
    pairs: dict[str, Pair] = field(default_factory=dict)
    by_refresh_token: dict[str, Pair] = field(default_factory=dict)

    def mint(self, install_id: str, now: datetime, requested_at: datetime) -> IssuedTokens:
        """The answer to a `plugin_install`."""
        if install_id not in self.installed:
            raise GrantRefused("invalid_grant")
        if self.policy.mint_invalidates:
            self.revoke(install_id)
        return self._issue(install_id, now, requested_at, minted=True)

    def refresh(self, refresh_token: str, now: datetime, requested_at: datetime) -> IssuedTokens:
        """The answer to a `refresh_token`."""
        pair = self.by_refresh_token.get(refresh_token)
        if pair is None or not pair.is_live or pair.install_id not in self.installed:
            raise GrantRefused("invalid_grant")
        if pair.used_at is not None:
            match self.policy.rotation:
                case Rotation.GRACE if now > pair.used_at + GRACE:
                    raise GrantRefused("invalid_grant")
                case Rotation.STRICT:
                    raise GrantRefused("invalid_grant")
                case Rotation.FAMILY_REVOKED:
                    self.revoke(pair.install_id)
                    raise GrantRefused("invalid_grant")
        pair.used_at = now
        return self._issue(pair.install_id, now, requested_at, minted=False)

    def revoke(self, install_id: str) -> None:
        """Every token of this install is dead."""
        for pair in self.pairs.values():
            if pair.install_id == install_id:
                pair.is_live = False

    def takes(self, access_token: Secret, install_id: str, now: datetime) -> bool:
        """Whether a call with this token would succeed for this install."""
        pair = self.pairs.get(access_token.reveal())
        return pair is not None and pair.install_id == install_id and pair.is_live and now < pair.expires_at

    def _issue(self, install_id: str, now: datetime, requested_at: datetime, *, minted: bool) -> IssuedTokens:
        serial = len(self.pairs) + 1
        pair = Pair(install_id, f"access-{serial:06}", f"refresh-{serial:06}", now + self.policy.access_life)
        self.pairs[pair.access_token] = self.by_refresh_token[pair.refresh_token] = pair
        return IssuedTokens(
            access_token=Secret(pair.access_token),
            token_type="Bearer",
            requested_at=requested_at,
            expires_in=self.policy.access_life,
            refresh_token=Secret(pair.refresh_token),
            refresh_token_expires_in=self.policy.refresh_life,
            company_id=self.company_id,
            minted=minted,
        )
