"""Who calls: a client certificate, a bearer token, or both, from files that are read again when they change."""

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, NamedTuple, NoReturn, TypeVar

import grpc

log = logging.getLogger(__name__)

AnyPath = str | Path
Stamp = tuple[tuple[int, int, int], ...] | None
MAX_FILE_BYTES: Final = 1_048_576

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Credentials:
    """`tls`, or `insecure`: who calls, and by what authorities the broker is known.

    The files must be there and good when a client is made. One that is broken later is not taken, and the last good one
    stays.

    Raises:
        ValueError: these don't go together.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    is_insecure: bool = False

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a certificate and its key belong together: give both files, or none")
        if self.is_insecure and (self.ca_file or self.certificate_file or self.token_file):
            raise ValueError(
                "insecure is in the clear: no file may be given with it, and a token file least of all"
            )

    @classmethod
    def tls(
        cls,
        *,
        ca_file: AnyPath | None = None,
        certificate_file: AnyPath | None = None,
        key_file: AnyPath | None = None,
        token_file: AnyPath | None = None,
    ) -> "Credentials":
        """What the broker asks for: a client certificate with its key, a bearer token, or both.

        Args:
            ca_file: the authorities of the broker's certificate, PEM; without it, those that gRPC brings along.
            certificate_file: the caller's own, PEM, with what leads to its authority.
            key_file: the certificate's, PEM, in the clear.
            token_file: holds one token, such as the file that Kubernetes projects.
        """
        return cls(_path(ca_file), _path(certificate_file), _path(key_file), _path(token_file))

    @classmethod
    def insecure(cls) -> "Credentials":
        """Nobody in particular, in the clear: for a broker on loopback."""
        return cls(is_insecure=True)


class Material(NamedTuple):
    """What a connection is made with. None: the authorities that gRPC brings along; no certificate."""

    authorities: bytes | None
    key: bytes | None
    certificate: bytes | None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """As gRPC takes them."""
        return grpc.ssl_channel_credentials(self.authorities, self.key, self.certificate)


class Proofs:
    """The files of some credentials, read again when they change.

    Raises:
        OSError, ValueError: upon creation, if a file is missing or broken.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._material: Reloaded[Material] | None = None
        self._token: Reloaded[str] | None = None
        if not credentials.is_insecure:
            files = (credentials.ca_file, credentials.key_file, credentials.certificate_file)
            self._material = Reloaded([file for file in files if file], lambda: _checked(credentials))
        if (token_file := credentials.token_file) is not None:
            self._token = Reloaded([token_file], lambda: _bearer(token_file))

    def material(self) -> Material | None:
        """None: in the clear."""
        return None if self._material is None else self._material.current()

    def bearer(self) -> str | None:
        """The token to send with each call. None: there is no token file."""
        return None if self._token is None else self._token.current()


class Reloaded(Generic[T]):
    """What some files hold. `load` reads them: OSError or ValueError says that they are broken."""

    def __init__(self, files: Sequence[Path], load: Callable[[], T]) -> None:
        self._files = files
        self._load = load
        self._taken = _stamp(files)
        self._refused: Stamp = None
        self._value = load()

    def current(self) -> T:
        """What they hold now, or held when they were last good."""
        stamp = _stamp(self._files)
        if stamp != self._taken:
            try:
                self._value = self._load()
            except (OSError, ValueError) as error:
                self._warn(stamp, error)
            else:
                self._taken = stamp
        return self._value

    def _warn(self, stamp: Stamp, error: Exception) -> None:
        """Once for each state of the files."""
        if stamp is None or stamp != self._refused:
            names = ", ".join(map(str, self._files))
            log.warning("kept what was last good, of %s: %s", names, error)
        self._refused = stamp


def _stamp(files: Sequence[Path]) -> Stamp:
    """Differs when the files do. None: one is missing."""
    try:
        seen = [file.stat() for file in files]
    except OSError:
        return None
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in seen)


def _checked(credentials: Credentials) -> Material:
    """Files that fit together. gRPC itself would take any, and fail when it connects."""
    material = _read_all(credentials)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if material.authorities is not None:
        # Between certificates there may be comments, in any alphabet.
        context.load_verify_locations(cadata=material.authorities.decode("ascii", errors="ignore"))
    if credentials.certificate_file is not None and credentials.key_file is not None:
        context.load_cert_chain(credentials.certificate_file, credentials.key_file, password=_no_password)
    if _read_all(credentials) != material:
        raise ValueError("they changed while they were read")
    return material


def _read_all(credentials: Credentials) -> Material:
    return Material(
        _read(credentials.ca_file), _read(credentials.key_file), _read(credentials.certificate_file)
    )


def _read(file: Path | None) -> bytes | None:
    if file is None:
        return None
    with file.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{file} is larger than {MAX_FILE_BYTES} bytes")
    return content


def _bearer(file: Path) -> str:
    """A token of visible ASCII. What it says else is for the broker to judge."""
    token = (_read(file) or b"").strip().decode("ascii", errors="replace")
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError(f"{file} holds no token")
    return token


def _no_password() -> NoReturn:
    """Without it OpenSSL would ask at the terminal, and wait."""
    raise ValueError("the key is encrypted")


def _path(file: AnyPath | None) -> Path | None:
    return None if file is None else Path(file)
