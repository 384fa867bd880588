"""certificates: of gRPC's server and of the authorities that callers are judged by: what they are, and when they end."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from broker.adapters.clock import SteadyClock
from broker.api.tls import BadTlsFile, ServerTls, TlsFile, TlsFiles
from broker.config import Settings, variable_of
from broker.doctor.environment import Environment
from broker.doctor.findings import Finding, fail, ok, warn

# Time enough to have one issued by people.
SOON: Final = timedelta(days=30)
_RENEW: Final = "renew it; the broker reads the new file without a restart (docs/secure.md)"


def look(environment: Environment) -> Iterator[Finding]:
    """Put them together as the server would, and read their ends."""
    settings = environment.settings
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        yield ok(f"{variable_of('tls_certificate_file')} is not set: gRPC is served in the clear")
        return
    try:
        ServerTls(_files(settings.tls_certificate_file, settings.tls_key_file, settings), SteadyClock())
    except BadTlsFile as error:
        yield fail(str(error), "docs/secure.md tells which files these are")
        return
    yield ok(f"{variable_of('tls_key_file')} is the key of the certificate")
    now = datetime.now(UTC)
    yield chain_verdict(_read(settings.tls_certificate_file), now)
    if settings.tls_client_ca_file is not None:
        yield authorities_verdict(_read(settings.tls_client_ca_file), now)


def chain_verdict(chain: list[x509.Certificate], now: datetime) -> Finding:
    """What clients will say of it: the first is the server's, and each is needed."""
    setting = variable_of("tls_certificate_file")
    begins_at = max(each.not_valid_before_utc for each in chain)
    ends_at = min(each.not_valid_after_utc for each in chain)
    if begins_at > now:
        return fail(
            f"{setting} is not valid before {begins_at:%Y-%m-%d %H:%M} UTC", "wait, or set the clock right"
        )
    return _end_verdict(setting, ends_at, now)


def authorities_verdict(authorities: list[x509.Certificate], now: datetime) -> Finding:
    """Any of them may have issued a caller's: the last one's end is the end."""
    setting = variable_of("tls_client_ca_file")
    ends = sorted(each.not_valid_after_utc for each in authorities)
    if ends[0] <= now < ends[-1]:
        expired = sum(end <= now for end in ends)
        return warn(
            f"{setting}: {expired} of {len(ends)} authorities have expired; callers that they certified are refused",
            "take them out, once nobody shows a certificate of theirs any more",
        )
    return _end_verdict(setting, ends[0] if ends[0] > now else ends[-1], now)


def _end_verdict(setting: str, ends_at: datetime, now: datetime) -> Finding:
    if ends_at <= now:
        return fail(f"{setting} has expired, on {ends_at:%Y-%m-%d %H:%M} UTC", _RENEW)
    text = f"{setting} ends {ends_at:%Y-%m-%d}, in {(ends_at - now).days} days"
    return ok(text) if ends_at - now >= SOON else warn(text, _RENEW)


def _files(certificate: str, key: str, settings: Settings) -> TlsFiles:
    authorities = settings.tls_client_ca_file
    return TlsFiles(
        TlsFile(variable_of("tls_certificate_file"), Path(certificate)),
        TlsFile(variable_of("tls_key_file"), Path(key)),
        TlsFile(variable_of("tls_client_ca_file"), Path(authorities)) if authorities else None,
    )


def _read(path: str) -> list[x509.Certificate]:
    """ServerTls has read the file, and found certificates in it."""
    return x509.load_pem_x509_certificates(Path(path).read_bytes())
