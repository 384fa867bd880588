"""Issues, rotates and revokes make-believe tokens. Pure: no I/O, and the time is an argument.

`Behaviour` says which of the answers to "what does Envoy do with a spent token?" holds.
"""

import random
from collections import defaultdict

from broker.sandbox.simulated_envoy.behaviour import Behaviour
from broker.sandbox.simulated_envoy.clients import SimulatedApp
from broker.sandbox.simulated_envoy.tokens import InstallKey, IssuedToken, TokenFamily, TokenPair, digest

TOKEN_BITS = 160


class GrantRefusedError(Exception):
    """The grant is refused as RFC 6749's invalid_grant; the message is the error_description."""


class Issuer:
    """The installs that stand, and the tokens issued for them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._companies: dict[InstallKey, str] = {}
        self._families: defaultdict[InstallKey, list[TokenFamily]] = defaultdict(list)
        self._tokens: dict[str, IssuedToken] = {}

    def install(self, key: InstallKey, company_id: str) -> None:
        """The app is installed from now on (again, perhaps)."""
        self._companies[key] = company_id

    def uninstall(self, key: InstallKey) -> None:
        """The install is gone, and its tokens with it."""
        self._companies.pop(key, None)
        self._revoke_all(key, "uninstalled")

    def mint(self, key: InstallKey, behaviour: Behaviour, now: float) -> TokenPair:
        """The plugin_install grant: a fresh pair.

        Raises:
            GrantRefusedError: The app has no such install.
        """
        family = self._begin_family(key)
        if behaviour.mint_invalidates_earlier:
            self._revoke_all(key, "a later mint")
        self._families[key].append(family)
        return self._issue_pair(family, behaviour, now)

    def mint_for_app(self, app: SimulatedApp, behaviour: Behaviour, now: float) -> TokenPair:
        """The client_credentials grant: a pair of the app itself, bound to no install."""
        family = TokenFamily(app.plugin_id, None, app.company_id)
        return self._issue_pair(family, behaviour, now)

    def mint_installer_token(self, key: InstallKey, behaviour: Behaviour, now: float) -> TokenPair:
        """The access token without a refresh token that a webhook carries.

        Raises:
            GrantRefusedError: The app has no such install.
        """
        family = self._begin_family(key)
        self._families[key].append(family)
        lifetime = behaviour.access_token_lifetime_seconds
        return TokenPair(self._issue(family, now + lifetime), lifetime, None, None, family.company_id)

    def refresh(self, plugin_id: str, presented: str, behaviour: Behaviour, now: float) -> TokenPair:
        """The refresh_token grant: the next pair.

        Raises:
            GrantRefusedError: The token is unknown, another client's, revoked, spent or expired.
        """
        token = self._presented(presented)
        if token is None or token.family.plugin_id != plugin_id:
            raise GrantRefusedError("The refresh token is unknown.")
        if (reason := _why_dead(token, behaviour, now)) is not None:
            if token.spent_at is not None and behaviour.rotation == "family_revoked":
                token.family.revoked_because = (
                    token.family.revoked_because or "reuse of a spent refresh token"
                )
            raise GrantRefusedError(f"The refresh token is dead: {reason}.")
        if behaviour.rotation == "none":
            return self._keep_refresh_token(presented, token, behaviour, now)
        token.spent_at = now if token.spent_at is None else token.spent_at
        end = None if behaviour.refresh_extends_refresh_lifetime else token.expires_at
        return self._issue_pair(token.family, behaviour, now, refresh_expires_at=end)

    def family_of(self, presented: str | None) -> TokenFamily | None:
        """Whose refresh token this is."""
        token = self._presented(presented)
        return token.family if token else None

    def is_spent(self, presented: str | None) -> bool:
        """Whether this refresh token has been exchanged for another one."""
        token = self._presented(presented)
        return token is not None and token.spent_at is not None

    def company_of_live(self, access_token: str, now: float) -> str | None:
        """The company of an access token that is alive, else None."""
        token = self._tokens.get(digest(access_token))
        if token is None or token.is_refresh or _why_dead(token, Behaviour(), now):
            return None
        return token.family.company_id

    def find(self, digest_prefix: str) -> IssuedToken | None:
        """The token whose digest begins so."""
        return next((token for key, token in self._tokens.items() if key.startswith(digest_prefix)), None)

    def why_dead(self, token: IssuedToken, behaviour: Behaviour, now: float) -> str | None:
        """Why presenting the token would fail, or None while it is alive."""
        return _why_dead(token, behaviour, now)

    def _begin_family(self, key: InstallKey) -> TokenFamily:
        if key not in self._companies:
            raise GrantRefusedError("The app has no such install.")
        return TokenFamily(key.plugin_id, key.install_id, self._companies[key])

    def _revoke_all(self, key: InstallKey, reason: str) -> None:
        for family in self._families.pop(key, []):
            family.revoked_because = family.revoked_because or reason

    def _presented(self, refresh_token: str | None) -> IssuedToken | None:
        token = self._tokens.get(digest(refresh_token)) if refresh_token else None
        return token if token and token.is_refresh else None

    def _keep_refresh_token(
        self, presented: str, token: IssuedToken, behaviour: Behaviour, now: float
    ) -> TokenPair:
        if behaviour.refresh_extends_refresh_lifetime:
            token.expires_at = now + behaviour.refresh_token_lifetime_seconds
        return self._pair(token.family, (presented, token.expires_at), behaviour, now)

    def _issue_pair(
        self, family: TokenFamily, behaviour: Behaviour, now: float, refresh_expires_at: float | None = None
    ) -> TokenPair:
        end = (
            now + behaviour.refresh_token_lifetime_seconds
            if refresh_expires_at is None
            else refresh_expires_at
        )
        return self._pair(family, (self._issue(family, end, is_refresh=True), end), behaviour, now)

    def _pair(
        self, family: TokenFamily, refresh: tuple[str, float], behaviour: Behaviour, now: float
    ) -> TokenPair:
        refresh_token, refresh_expires_at = refresh
        lifetime = behaviour.access_token_lifetime_seconds
        access_token = self._issue(family, now + lifetime)
        return TokenPair(
            access_token, lifetime, refresh_token, int(refresh_expires_at - now), family.company_id
        )

    def _issue(self, family: TokenFamily, expires_at: float, *, is_refresh: bool = False) -> str:
        kind = "rt" if is_refresh else "at"
        token = f"simulated-{kind}-{self._rng.getrandbits(TOKEN_BITS):0{TOKEN_BITS // 4}x}"
        self._tokens[digest(token)] = IssuedToken(family, is_refresh, expires_at)
        return token


def _why_dead(token: IssuedToken, behaviour: Behaviour, now: float) -> str | None:
    if token.family.revoked_because is not None:
        return f"revoked: {token.family.revoked_because}"
    if token.spent_at is not None and not _spent_still_works(token.spent_at, behaviour, now):
        return "spent"
    return "expired" if now >= token.expires_at else None


def _spent_still_works(spent_at: float, behaviour: Behaviour, now: float) -> bool:
    if behaviour.rotation == "none":
        return True
    return behaviour.rotation == "grace" and now < spent_at + behaviour.grace_seconds
