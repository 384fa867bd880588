"""Names a caller by its bearer token: a JWT such as Kubernetes' projected service-account tokens.

A signature costs more than all else on the way to a token, and a caller shows the same one for minutes: what was
verified is remembered by its digest, until it expires, the keys change, or MAX_BELIEF has passed.
"""

import hashlib
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from broker.adapters.identity.key_set import KeySet
from broker.adapters.identity.refusals import Refusal
from broker.adapters.identity.token_verification import (
    MAX_TOKEN_CHARACTERS,
    TokenTerms,
    Verified,
    read_signing_header,
    verify,
)
from broker.domain.errors import CallerUnauthenticated
from broker.domain.secret import Secret
from broker.ports import Clock

MAX_BELIEF: Final = timedelta(minutes=5)
MAX_REMEMBERED: Final = 10_000


class BearerTokens:
    """Verifies bearer tokens by the issuer's keys."""

    def __init__(
        self, terms: TokenTerms, keys: KeySet, clock: Clock, *, max_remembered: int = MAX_REMEMBERED
    ) -> None:
        self._terms = terms
        self._keys = keys
        self._clock = clock
        self._remembered = _Remembered(max_remembered)

    async def subject_of(self, token: Secret) -> str:
        """The subject of a token that is to be believed.

        Raises:
            CallerUnauthenticated: it is not, or can't be verified.
        """
        text = token.reveal()
        if len(text) > MAX_TOKEN_CHARACTERS:
            raise CallerUnauthenticated(Refusal.TOKEN_TOO_LARGE)
        digest = hashlib.sha256(text.encode()).digest()
        known = self._remembered.get(digest, self._keys.revision, self._clock.now())
        if known is not None:
            return known
        header = read_signing_header(text, self._terms)
        key = await self._keys.find(header.kid)
        now = self._clock.now()
        verified = verify(text, header, key, self._terms, now)
        self._remembered.put(digest, verified, self._keys.revision, now)
        return verified.subject


class _Remembered:
    """Subjects by their tokens' digests; at most `max_entries`, the least lately used leave first."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, tuple[str, datetime]] = OrderedDict()
        self._revision = 0

    def get(self, digest: bytes, revision: int, now: datetime) -> str | None:
        """The subject, if the token may still be believed unseen. Keys of another revision empty the memory."""
        self._follow(revision)
        entry = self._entries.get(digest)
        if entry is None:
            return None
        subject, believed_until = entry
        if now >= believed_until:
            del self._entries[digest]
            return None
        self._entries.move_to_end(digest)
        return subject

    def put(self, digest: bytes, verified: Verified, revision: int, now: datetime) -> None:
        """Remember what was verified at `now` by the keys of that revision."""
        self._follow(revision)
        self._entries[digest] = verified.subject, min(verified.expires_at, now + MAX_BELIEF)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def _follow(self, revision: int) -> None:
        if revision != self._revision:
            self._revision = revision
            self._entries.clear()
