"""The Authenticator port, by the proofs that the configuration demands."""

from functools import lru_cache
from typing import Final

from broker.adapters.identity.bearer_tokens import BearerTokens
from broker.adapters.identity.certificates import certificate_caller
from broker.adapters.identity.refusals import Refusal, RefusalLog
from broker.domain.callers import Caller, Credentials, KnownBy
from broker.domain.errors import CallerUnauthenticated
from broker.domain.secret import Secret
from broker.ports import Clock

# Certificates' names whose judgement is remembered: it depends on nothing else, and callers show the same with each call.
MAX_REMEMBERED: Final = 1_000


class CallerAuthenticator:
    """Demands a client certificate, a bearer token, or both. Of both each must be good, and the token names the caller.

    What is not demanded is not looked at.
    """

    def __init__(self, clock: Clock, *, certificates: bool, tokens: BearerTokens | None) -> None:
        """Raises ValueError if nothing is demanded."""
        if not certificates and tokens is None:
            raise ValueError("a client certificate, a bearer token or both must be demanded")
        self._certificates = certificates
        self._tokens = tokens
        self._refusals = RefusalLog(clock)

    async def authenticate(self, credentials: Credentials) -> Caller:
        try:
            if self._certificates:
                certified = _certified(credentials.certificate_names)
                if self._tokens is None:
                    return certified
            return await self._by_token(credentials.bearer)
        except CallerUnauthenticated as refused:
            self._refusals.note(refused.why)
            raise

    async def _by_token(self, bearer: Secret | None) -> Caller:
        if self._tokens is None or not bearer:
            raise CallerUnauthenticated(Refusal.NO_TOKEN)
        return Caller(await self._tokens.subject_of(bearer), KnownBy.TOKEN)


@lru_cache(MAX_REMEMBERED)
def _certified(certificate_names: tuple[str, ...]) -> Caller:
    """Whom they name. Raises CallerUnauthenticated, which is not remembered."""
    return Caller(certificate_caller(certificate_names), KnownBy.CERTIFICATE)
