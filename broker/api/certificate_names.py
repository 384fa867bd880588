"""The names in a caller's client certificate, from what gRPC tells of its connection."""

from collections.abc import Iterable, Mapping
from typing import Final

# By kind, and not gRPC's x509_subject_alternative_name, which mixes them: an e-mail address there can read like a
# SPIFFE id.
_URIS: Final = "peer_uri"
_DNS_NAMES: Final = "peer_dns"
# Stands in a name for what no name has, so that its reader refuses it. Left out, another would take its place.
_NOT_A_NAME: Final = "\ufffd"
# What tells the two kinds apart further on.
_COLON: Final = ":"


def certificate_names(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """The URIs, then the DNS names, each in the certificate's order; none without a verified certificate.

    Every URI has a colon and no DNS name has one, whatever somebody had put into a certificate.
    """
    uris = [_text(value) for value in auth_context.get(_URIS, ())]
    dns_names = [_text(value) for value in auth_context.get(_DNS_NAMES, ())]
    return (
        *(uri if _COLON in uri else _COLON + uri for uri in uris),
        *(name.replace(_COLON, _NOT_A_NAME) for name in dns_names),
    )


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")
