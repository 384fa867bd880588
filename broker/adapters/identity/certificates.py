"""The caller's name, from the names in its client certificate.

SPIFFE: the standards SPIFFE-ID.md (sections 2.1 to 2.4) and X509-SVID.md (section 2). TLS has verified the certificate
before; what is judged here is only whether it names one caller, and which.
"""

import re
from collections.abc import Sequence
from typing import Final

from broker.adapters.identity.refusals import Refusal
from broker.domain.errors import CallerUnauthenticated

MAX_SPIFFE_ID_CHARACTERS: Final = 2048
MAX_DNS_NAME_CHARACTERS: Final = 253

_SPIFFE: Final = "spiffe:"
# A leaf's id has a path; without one it names the trust domain itself.
_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def certificate_caller(certificate_names: Sequence[str]) -> str:
    """The certificate's SPIFFE id, or else its first DNS name, in lower case.

    A certificate with a SPIFFE id must have no other URI. What is malformed is refused, and never passed over for a
    name further on: whoever issued it meant something else than we would read.

    Raises:
        CallerUnauthenticated: it names nobody, or more than one.
    """
    if not certificate_names:
        raise CallerUnauthenticated(Refusal.NO_CERTIFICATE)
    uris = [name for name in certificate_names if _is_uri(name)]
    if any(uri.lower().startswith(_SPIFFE) for uri in uris):
        return _spiffe_id(uris)
    dns_names = [name for name in certificate_names if not _is_uri(name)]
    if not dns_names:
        raise CallerUnauthenticated(Refusal.CERTIFICATE_WITHOUT_NAME)
    return _dns_name(dns_names[0])


def _is_uri(name: str) -> bool:
    """No DNS name has a colon, and every URI has one."""
    return ":" in name


def _spiffe_id(uris: Sequence[str]) -> str:
    if len(uris) > 1:
        raise CallerUnauthenticated(Refusal.SEVERAL_SPIFFE_IDS)
    (spiffe_id,) = uris
    if len(spiffe_id) > MAX_SPIFFE_ID_CHARACTERS or not _SPIFFE_ID.fullmatch(spiffe_id):
        raise CallerUnauthenticated(Refusal.NAME_MALFORMED)
    return spiffe_id


def _dns_name(name: str) -> str:
    """A wildcard is malformed here: it names nobody."""
    lower = name.lower()
    if len(lower) > MAX_DNS_NAME_CHARACTERS or not _DNS_NAME.fullmatch(lower):
        raise CallerUnauthenticated(Refusal.NAME_MALFORMED)
    return lower
