"""The simulated Envoy's issuer: each rotation mode keeps its word under any order of requests."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.simulated_envoy.behaviour import Behaviour
from broker.sandbox.simulated_envoy.issuer import GrantRefusedError, Issuer
from broker.sandbox.simulated_envoy.tokens import InstallKey, TokenPair, digest

PLUGIN = "4242"
KEY = InstallKey(PLUGIN, "1000000")
START = 1_800_000_000.0
GRACE_SECONDS = 60

# What a client does: mint, wait some seconds, or present the refresh token of that index (modulo their number).
ACTIONS = st.lists(st.just("mint") | st.integers(0, 40) | st.floats(0.5, 90), min_size=1, max_size=40)


class Client:
    """Presents refresh tokens in any order, and remembers what came of each."""

    def __init__(self, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self.issuer = Issuer(random.Random(1))  # noqa: S311  # make-believe tokens, the same in each run
        self.issuer.install(KEY, "100000")
        self.now = START
        self.pairs: list[TokenPair] = []
        self.mint_of: dict[str, int] = {}
        self.mint()

    def mint(self) -> TokenPair:
        """A fresh pair, which begins a family."""
        pair = self.issuer.mint(KEY, self.behaviour, self.now)
        return self._keep(pair, family=len(self.pairs))

    def refresh(self, token: str) -> TokenPair | None:
        """The next pair, or None if Envoy refused."""
        try:
            pair = self.issuer.refresh(PLUGIN, token, self.behaviour, self.now)
        except GrantRefusedError:
            return None
        return self._keep(pair, family=self.mint_of[token])

    def is_alive(self, token: str) -> bool:
        """Whether the token would be taken now."""
        issued = self.issuer.find(digest(token))
        assert issued is not None
        return self.issuer.why_dead(issued, self.behaviour, self.now) is None

    def act(self, action: str | float) -> tuple[str, TokenPair | None] | None:
        """Does one of `ACTIONS`; says what was presented, and what it brought."""
        if isinstance(action, str):
            self.mint()
        elif isinstance(action, int):
            token = refresh_token_of(self.pairs[action % len(self.pairs)])
            return token, self.refresh(token)
        else:
            self.now += action
        return None

    def _keep(self, pair: TokenPair, family: int) -> TokenPair:
        self.pairs.append(pair)
        self.mint_of.setdefault(refresh_token_of(pair), family)
        return pair


def refresh_token_of(pair: TokenPair) -> str:
    """Grants always answer one."""
    assert pair.refresh_token is not None
    return pair.refresh_token


@given(ACTIONS)
def test_strict_refresh_token_never_succeeds_twice(actions: list[str | float]) -> None:
    """The mode that punishes a second presentation must never let one through."""
    client = Client(rotation="strict")
    succeeded: set[str] = set()
    for action in actions:
        if (presented := client.act(action)) is None:
            continue
        token, pair = presented
        assert (pair is not None) is (token not in succeeded)
        succeeded.add(token)


@given(ACTIONS)
def test_reuse_revokes_the_family_and_only_the_family(actions: list[str | float]) -> None:
    """The newest pair dies with the spent token; a later mint's pair does not."""
    client = Client(rotation="family_revoked")
    spent: set[str] = set()
    revoked: set[int] = set()
    for action in actions:
        if (presented := client.act(action)) is None:
            continue
        token, pair = presented
        family = client.mint_of[token]
        assert (pair is not None) is (token not in spent and family not in revoked)
        if token in spent:
            revoked.add(family)
        spent.add(token)
        for known in client.pairs:
            known_family = client.mint_of[refresh_token_of(known)]
            assert client.is_alive(known.access_token) is (known_family not in revoked)


@given(ACTIONS)
def test_grace_counts_from_the_first_presentation(actions: list[str | float]) -> None:
    """A spent token works until the period ends, and not at its end."""
    client = Client(rotation="grace", grace_seconds=GRACE_SECONDS)
    first: dict[str, float] = {}
    for action in actions:
        if (presented := client.act(action)) is None:
            continue
        token, pair = presented
        assert (pair is not None) is (client.now < first.setdefault(token, client.now) + GRACE_SECONDS)


def test_presenting_a_token_within_its_grace_does_not_lengthen_it() -> None:
    """The smallest case of the above, which a random search may miss."""
    client = Client(rotation="grace", grace_seconds=GRACE_SECONDS)
    token = refresh_token_of(client.pairs[0])
    for seconds_since_last, works in ((0, True), (GRACE_SECONDS - 1, True), (1, False)):
        client.now += seconds_since_last
        assert (client.refresh(token) is not None) is works


@given(ACTIONS)
def test_without_rotation_a_token_comes_back_and_stays_good(actions: list[str | float]) -> None:
    """What Envoy may do, for all that is documented."""
    client = Client(rotation="none")
    for action in actions:
        if (presented := client.act(action)) is None:
            continue
        token, pair = presented
        assert pair is not None
        assert pair.refresh_token == token


@pytest.mark.parametrize("extends", [False, True])
def test_token_that_does_not_rotate_ends_later_only_where_refresh_extends(extends: bool) -> None:
    """The same token, presented daily, lives for ever or for its first 30 days."""
    client = Client(
        rotation="none", refresh_extends_refresh_lifetime=extends, refresh_token_lifetime_seconds=100
    )
    token = refresh_token_of(client.pairs[0])
    client.now += 60
    assert (pair := client.refresh(token)) is not None
    assert pair.refresh_token_expires_in == (100 if extends else 40)
    client.now += 60
    assert (client.refresh(token) is not None) is extends


def test_rotation_mode_is_that_of_the_presentation() -> None:
    """A test may spend a token under one mode, and see it judged under another."""
    client = Client(rotation="strict")
    token = refresh_token_of(client.pairs[0])
    assert client.refresh(token) is not None
    assert client.refresh(token) is None
    client.behaviour = Behaviour(rotation="none")
    assert client.refresh(token) is not None


@given(ACTIONS, st.booleans())
def test_family_outlives_its_first_refresh_token_only_where_refresh_extends(
    actions: list[str | float], extends: bool
) -> None:
    """Unknown of Envoy: whether an app that refreshes daily must mint again after 30 days."""
    client = Client(
        rotation="strict", refresh_extends_refresh_lifetime=extends, refresh_token_lifetime_seconds=100
    )
    ends: dict[int, float] = {0: client.now + 100}
    for action in actions:
        if action == "mint":
            ends[len(client.pairs)] = client.now + 100
        if (presented := client.act(action)) is None or (pair := presented[1]) is None:
            continue
        family = client.mint_of[presented[0]]
        end = client.now + 100 if extends else ends[family]
        assert pair.refresh_token_expires_in == int(end - client.now)
        assert client.now < end


@pytest.mark.parametrize("invalidates", [False, True])
def test_mint_invalidates_earlier_pairs_where_it_is_said_to(invalidates: bool) -> None:
    """Unknown of Envoy; and the webhook's own token is one of the earlier ones."""
    client = Client(mint_invalidates_earlier=invalidates)
    webhook_token = client.issuer.mint_installer_token(KEY, client.behaviour, client.now).access_token
    earlier, later = client.pairs[0], client.mint()
    for token in (earlier.access_token, refresh_token_of(earlier), webhook_token):
        assert client.is_alive(token) is not invalidates
    assert client.is_alive(later.access_token)


def test_mint_leaves_other_installs_alone() -> None:
    """Also the same install id under another app."""
    client = Client(mint_invalidates_earlier=True)
    elsewhere = InstallKey("4343", KEY.install_id)
    client.issuer.install(elsewhere, "100000")
    client.issuer.mint(elsewhere, client.behaviour, client.now)
    assert client.is_alive(client.pairs[0].access_token)


def test_reinstall_does_not_revive_tokens() -> None:
    """An uninstall is for good; the next install begins with a mint."""
    client = Client()
    client.issuer.uninstall(KEY)
    with pytest.raises(GrantRefusedError):
        client.mint()
    client.issuer.install(KEY, "100000")
    assert client.refresh(refresh_token_of(client.pairs[0])) is None
    assert client.refresh(refresh_token_of(client.mint())) is not None


def test_access_token_is_no_refresh_token() -> None:
    """Each kind is good for its own use only."""
    client = Client()
    assert client.refresh(client.pairs[0].access_token) is None
    refresh_token = refresh_token_of(client.pairs[0])
    assert client.issuer.company_of_live(refresh_token, client.now) is None


def test_tokens_are_fakes_and_no_two_are_alike() -> None:
    """Nobody should take one for a leak, and a test must be able to tell them apart."""
    client = Client()
    tokens = [
        token for _ in range(50) for token in (client.mint().access_token, client.pairs[-1].refresh_token)
    ]
    assert len(set(tokens)) == 100
    assert all(str(token).startswith(("simulated-at-", "simulated-rt-")) for token in tokens)


def test_pair_hides_its_tokens_in_its_repr() -> None:
    """Failing tests print their locals."""
    pair = Client().pairs[0]
    assert pair.access_token not in repr(pair)
    assert refresh_token_of(pair) not in repr(pair)
