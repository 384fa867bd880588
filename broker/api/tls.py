"""TLS for the gRPC listener, from files that may change while it serves.

gRPC asks for the certificate before each handshake, in a thread of its own. The files are looked at then, at most once
in LOOK_INTERVAL, and read only if one of them has changed. A pair that does not fit together, as one half written, is
no reason to stop serving: the old one stays, and the log says so, once for each such change.

New connections alone see what is new; the age at which gRPC closes connections bounds how long an old one lasts.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, cast

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker.ports import Clock

LOOK_INTERVAL: Final = timedelta(seconds=1)
MAX_FILE_BYTES: Final = 1024 * 1024
MIN_RSA_BITS: Final = 2048  # CA/Browser Forum, Baseline Requirements 6.1.5
# What gRPC's clients take a signature by; a server with another kind of key starts, and nobody gets through to it.
SERVING_CURVES: Final = ("secp256r1", "secp384r1")

log = structlog.get_logger(__name__)


class BadTlsFile(ValueError):
    """A file that TLS can't be served from. Its text is a sentence that begins with the setting."""


class TlsFile(NamedTuple):
    """Attributes: setting: the variable that names the file, for errors."""

    setting: str
    path: Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files.

    Attributes:
        certificate: the server's, with whatever is between it and its authority behind it.
        key: the certificate's private key, not encrypted.
        client_authorities: whose certificates callers must show; None asks callers for none.
    """

    certificate: TlsFile
    key: TlsFile
    client_authorities: TlsFile | None = None

    def all(self) -> tuple[TlsFile, ...]:
        """Each of them that there is."""
        return tuple(
            file for file in (self.certificate, self.key, self.client_authorities) if file is not None
        )


class _Pair(NamedTuple):
    """What is served. Holds the private key: it is shown nowhere."""

    configuration: grpc.ServerCertificateConfiguration
    ends_at: datetime


# What tells one state of a file from another: modified (ns), size, inode; None if it is not there.
_Stamp = tuple[int, int, int] | None


class ServerTls:
    """The listener's certificate and trust, always the newest that fit together."""

    def __init__(self, files: TlsFiles, clock: Clock) -> None:
        """Reads the files.

        Raises:
            BadTlsFile: TLS can't be served from them.
        """
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = clock.now()
        self._stamps = _stamps(files)
        self._pair = _read_pair(files)

    @property
    def certificate_ends_at(self) -> datetime:
        """Until when the certificate that is served now is valid."""
        return self._pair.ends_at

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for one port; each port needs its own, since gRPC tells each once of what is new.

        With client authorities, a caller whose certificate they did not issue does not get past the handshake.
        """
        first = self._newest()
        return grpc.dynamic_ssl_server_credentials(
            first.configuration,
            # None, for "as before", is in gRPC's documentation and not in its types.
            cast("Callable[[], grpc.ServerCertificateConfiguration]", _Teller(self._newest, first).news),
            require_client_authentication=self._files.client_authorities is not None,
        )

    def _newest(self) -> _Pair:
        with self._lock:
            now = self._clock.now()
            if now - self._looked_at >= LOOK_INTERVAL:
                self._looked_at = now
                self._look()
            return self._pair

    def _look(self) -> None:
        # Taken before reading, so that a change in the middle of it is seen the next time.
        stamps = _stamps(self._files)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        problem = ""
        try:
            self._pair = _read_pair(self._files)
        except BadTlsFile as error:
            problem = str(error)
        until = self._pair.ends_at.isoformat()
        if problem:
            log.error("tls.files_refused", problem=problem, serving_until=until)
        else:
            log.info("tls.files_changed", serving_until=until)


class _Teller:
    """What one port has been told."""

    def __init__(self, newest: Callable[[], _Pair], told: _Pair) -> None:
        self._newest = newest
        self._told = told

    def news(self) -> grpc.ServerCertificateConfiguration | None:
        """What to serve from now on; None if that is what was told last: gRPC parses all of it again otherwise."""
        newest = self._newest()
        if newest is self._told:
            return None
        self._told = newest
        return newest.configuration


def certificate_end(file: TlsFile) -> datetime:
    """Until when the first certificate in the file is valid, UTC.

    Raises:
        BadTlsFile: there is none.
    """
    return _certificates(file, _read(file))[0].not_valid_after_utc


def _read_pair(files: TlsFiles) -> _Pair:
    chain, key = _read(files.certificate), _read(files.key)
    certificate = _certificates(files.certificate, chain)[0]
    _check_key(files, certificate, key)
    authorities = None
    if files.client_authorities is not None:
        authorities = _read(files.client_authorities)
        _certificates(files.client_authorities, authorities)
    return _Pair(
        grpc.ssl_server_certificate_configuration([(key, chain)], authorities),
        certificate.not_valid_after_utc,
    )


def _read(file: TlsFile) -> bytes:
    content = b""
    with contextlib.suppress(OSError), file.path.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES + 1)
    if not content:
        raise BadTlsFile(f"{file.setting} must name a file that can be read and is not empty")
    if len(content) > MAX_FILE_BYTES:
        raise BadTlsFile(f"{file.setting} must name a file of at most {MAX_FILE_BYTES} bytes")
    return content


def _certificates(file: TlsFile, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise BadTlsFile(
            f"{file.setting} must name a file with certificates in PEM, and has none to read"
        ) from None


def _check_key(files: TlsFiles, certificate: x509.Certificate, pem: bytes) -> None:
    """Nothing, if the key is the certificate's and of a kind that gRPC serves with."""
    problem = "must name a file with a private key in PEM that is not encrypted"
    try:
        key = load_pem_private_key(pem, password=None)
        theirs = certificate.public_key()
    except (TypeError, ValueError, UnsupportedAlgorithm):
        # The library's own text may quote the file.
        raise BadTlsFile(f"{files.key.setting} {problem}") from None
    if not _serves(key):
        raise BadTlsFile(
            f"{files.key.setting} must name a file with an RSA key of {MIN_RSA_BITS} bits or more, or an EC key on "
            "P-256 or P-384"
        )
    if key.public_key() != theirs:
        raise BadTlsFile(
            f"{files.key.setting} must name the private key of the first certificate in {files.certificate.setting}"
        )


def _serves(key: object) -> bool:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.key_size >= MIN_RSA_BITS
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in SERVING_CURVES


def _stamps(files: TlsFiles) -> tuple[_Stamp, ...]:
    return tuple(_stamp(file.path) for file in files.all())


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
