"""The entrance: who is let in, what they may do, and the record of it, put together as the settings say.

With app.py the only module that knows adapters.
"""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import structlog

from broker.adapters.anybody import AnybodyCalls, EverythingAllowed, NoRecord
from broker.adapters.audit import AuditKeys, AuditTrail, Durability, sink_at
from broker.adapters.identity.authenticator import CallerAuthenticator
from broker.adapters.identity.bearer_tokens import BearerTokens
from broker.adapters.identity.key_set import FILE_TIMING, URL_TIMING, KeySet
from broker.adapters.identity.key_sources import KeyFile, KeyUrl
from broker.adapters.identity.token_verification import TokenTerms
from broker.adapters.policy import PolicyBroken, PolicyFile
from broker.api.tls import BadTlsFile, ServerTls, TlsFile, TlsFiles
from broker.config import Settings, SettingsError, variable_of
from broker.domain.secret import Secret
from broker.ports import AuditLog, Authenticator, Authorizer, Clock

log = structlog.get_logger(__name__)

URL_MARK = "://"


class Entrance:
    """Attributes: authenticator, authorizer, audit: the ports. credentials: of TLS; None serves in the clear."""

    authenticator: Authenticator
    authorizer: Authorizer
    audit: AuditLog
    credentials: grpc.ServerCredentials | None

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Reads the files that the settings name, and opens nothing yet.

        Raises:
            SettingsError: one of them is not what it should be.
        """
        self._settings = settings
        self._clock = clock
        self._keys: KeySet | None = None
        self._trail: AuditTrail | None = None
        self._policy: PolicyFile | None = None
        self.credentials = self._tls()
        if settings.insecure_serve_anybody:
            self.authenticator, self.authorizer = AnybodyCalls(), EverythingAllowed()
        else:
            self.authenticator = self._authenticator()
            self._policy = self._read_policy()
            self.authorizer = self._policy.authorizer
        self.audit = self._audit()

    async def start(self) -> None:
        """Open the record, and read the keys of the callers' tokens."""
        if self._trail is not None:
            await self._trail.start()
        if self._keys is not None and not await self._keys.load():
            log.error("caller_keys.unavailable", keys=self._settings.jwt_keys)

    def shut_because(self) -> str | None:
        """Why nobody can be served now; None if callers can."""
        if self._trail is not None and self._trail.problem:
            return f"the audit trail can't be written: {self._trail.problem}"
        if self._keys is not None and not self._keys.is_usable:
            return "the keys of the callers' tokens can't be read (TOKEN_BROKER_JWT_KEYS); the log says why"
        return None

    def remarks(self) -> list[str]:
        """What is wrong though callers are served."""
        return [self._policy.problem] if self._policy is not None and self._policy.problem else []

    @property
    def records_pending(self) -> int:
        """How many records wait to be written."""
        return self._trail.pending if self._trail is not None else 0

    def watches(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run as long as the broker does."""
        return [self._policy.watch()] if self._policy is not None else []

    async def close(self) -> None:
        """End the record, and whatever was begun for the callers' keys."""
        if self._trail is not None:
            await self._trail.close()
        if self._keys is not None:
            await self._keys.close()

    def _tls(self) -> grpc.ServerCredentials | None:
        settings = self._settings
        if settings.tls_certificate_file is None or settings.tls_key_file is None:
            return None
        authorities = settings.tls_client_ca_file
        files = TlsFiles(
            TlsFile(variable_of("tls_certificate_file"), Path(settings.tls_certificate_file)),
            TlsFile(variable_of("tls_key_file"), Path(settings.tls_key_file)),
            TlsFile(variable_of("tls_client_ca_file"), Path(authorities)) if authorities else None,
        )
        try:
            return ServerTls(files, self._clock).credentials()
        except BadTlsFile as error:
            raise SettingsError([str(error)]) from None

    def _authenticator(self) -> CallerAuthenticator:
        settings, tokens = self._settings, None
        if settings.jwt_issuer and settings.jwt_audience and settings.jwt_keys:
            terms = TokenTerms(settings.jwt_issuer, settings.jwt_audience, frozenset(settings.jwt_algorithms))
            self._keys = self._key_set(settings.jwt_keys)
            tokens = BearerTokens(terms, self._keys, self._clock)
        certificates = settings.tls_client_ca_file is not None
        return CallerAuthenticator(self._clock, certificates=certificates, tokens=tokens)

    def _key_set(self, place: str) -> KeySet:
        if URL_MARK not in place:
            return KeySet(KeyFile(Path(place)), self._clock, FILE_TIMING)
        settings = self._settings
        try:
            source = KeyUrl(
                place,
                ca_file=Path(settings.jwt_keys_ca_file) if settings.jwt_keys_ca_file else None,
                bearer_file=Path(settings.jwt_keys_token_file) if settings.jwt_keys_token_file else None,
            )
        except ValueError as error:
            raise SettingsError([f"{variable_of('jwt_keys')} {error}"]) from None
        return KeySet(source, self._clock, URL_TIMING)

    def _read_policy(self) -> PolicyFile:
        settings = self._settings
        if settings.policy_file is None:
            raise SettingsError([f"{variable_of('policy_file')} must be set"])
        groups = Path(settings.policy_groups_file) if settings.policy_groups_file else None
        try:
            return PolicyFile(Path(settings.policy_file), groups, clock=self._clock)
        except PolicyBroken as error:
            raise SettingsError([f"{variable_of('policy_file')}: {error}"]) from None

    def _audit(self) -> AuditLog:
        settings = self._settings
        places = [place for place in (settings.audit_log, settings.audit_second_log) if place is not None]
        if not places and settings.insecure_serve_anybody:
            return NoRecord()
        if not places or settings.audit_key is None:
            raise SettingsError([f"{variable_of('audit_log')} and {variable_of('audit_key')} must be set"])
        durability = Durability(settings.audit_durability)
        self._trail = AuditTrail(
            audit_keys(settings.audit_key), [sink_at(each, durability) for each in places]
        )
        return self._trail


def audit_keys(secret: Secret) -> AuditKeys:
    """The keys of the record.

    Raises:
        SettingsError: `secret` is none.
    """
    try:
        return AuditKeys(secret)
    except ValueError as error:
        raise SettingsError([f"{variable_of('audit_key')} {error}"]) from None
