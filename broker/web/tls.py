"""TLS for an HTTP listener, from files that may change while it serves.

The files are looked at when somebody connects, at most once in LOOK_INTERVAL, and read only if one has changed. Files
that don't fit together, as a pair half written, change nothing.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

LOOK_INTERVAL: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class HttpTlsFiles:
    """PEM files. Attributes: authorities: who vouches for clients' certificates, which none need show; None: nobody."""

    certificate: Path
    key: Path
    authorities: Path | None = None

    def stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What tells one state of the files from another."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.authorities) if path)


class NewestTls:
    """Attributes: context: what a listener is given, once; each handshake is made with what was read last."""

    def __init__(self, files: HttpTlsFiles, now: Callable[[], datetime]) -> None:
        """Reads the files.

        Raises:
            OSError, ssl.SSLError: TLS can't be served from them.
        """
        self._files = files
        self._now = now
        self._looked_at = now()
        self._stamps = files.stamps()
        self.context = self._newest = _context(files)
        self.context.sni_callback = self._use_newest

    def _use_newest(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called for each handshake, with a server's name or without."""
        if self._now() - self._looked_at >= LOOK_INTERVAL:
            self._looked_at = self._now()
            self._look()
        if self._newest is not self.context:
            handshake.context = self._newest

    def _look(self) -> None:
        # Taken before reading, so that a change in the middle of it is seen the next time.
        stamps = self._files.stamps()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._newest = _context(self._files)
        except OSError as error:  # ssl.SSLError is one
            log.error("web.tls_files_refused", problem=type(error).__name__)  # noqa: TRY400 (its text may quote the file)


def _context(files: HttpTlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Without tickets nothing is resumed in 1.3: a resumed session would bring a client's certificate that is judged no
    # more, by an authority that may have been removed since.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(files.certificate, files.key)
    if files.authorities is not None:
        context.load_verify_locations(files.authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
