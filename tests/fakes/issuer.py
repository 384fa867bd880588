"""An issuer of pairs in the strictest reading of Envoy: every token once only, one live pair an install."""

from datetime import datetime
from typing import NamedTuple

from broker.domain.errors import GrantRefused
from broker.domain.installs import IssuedTokens
from broker.domain.secret import Secret
from tests.fakes.samples import issued


class Grantee(NamedTuple):
    """Whose pair it is: an install of an app, as Envoy knows them."""

    client_id: str
    install_id: str


class StrictIssuer:
    """A used refresh token that is seen again revokes the family; a mint ends all pairs before it.

    Attributes:
        reused: refresh tokens that were presented after they had been used: none, if the broker is right.
        uninstalled: installs that get nothing.
        issued_count: how many pairs were issued.
    """

    def __init__(self) -> None:
        self.reused: list[str] = []
        self.uninstalled: set[str] = set()
        self.issued_count = 0
        self._live: dict[Grantee, IssuedTokens] = {}
        self._used: dict[str, Grantee] = {}
        self._owners: dict[str, Grantee] = {}

    def issue(self, grantee: Grantee, at: datetime, *, minted: bool) -> IssuedTokens:
        """A fresh pair; the one before is dead."""
        self.issued_count += 1
        pair = self._live[grantee] = issued(at, minted=minted)
        if pair.refresh_token is not None:
            self._owners[pair.refresh_token.reveal()] = grantee
        return pair

    def refresh_token_of(self, grantee: Grantee) -> str:
        """The one that would buy the next pair."""
        token = self._live[grantee].refresh_token
        assert token is not None
        return token.reveal()

    def is_live(self, grantee: Grantee, access_token: Secret) -> bool:
        """Whether Envoy would take this access token."""
        live = self._live.get(grantee)
        return live is not None and live.access_token == access_token

    def revoke(self, grantee: Grantee) -> None:
        """Forget the refresh token, as if it had expired or been taken back."""
        self._live.pop(grantee, None)

    def mint(self, grantee: Grantee, at: datetime) -> IssuedTokens:
        """The answer to a `plugin_install`."""
        if grantee.install_id in self.uninstalled:
            raise GrantRefused("invalid_install")
        return self.issue(grantee, at, minted=True)

    def refresh(self, client_id: str, refresh_token: str, at: datetime) -> IssuedTokens:
        """The answer to a `refresh_token`."""
        victim = self._used.get(refresh_token)
        if victim is not None:
            self.reused.append(refresh_token)
            self.revoke(victim)
        owner = self._owners.get(refresh_token)
        pair = self._live.get(owner) if owner is not None and owner.client_id == client_id else None
        if owner is None or pair is None or pair.refresh_token != Secret(refresh_token):
            raise GrantRefused("invalid_grant")
        self._used[refresh_token] = owner
        return self.issue(owner, at, minted=False)
