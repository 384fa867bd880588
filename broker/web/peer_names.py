"""The names in the client certificate of an HTTP connection: what gRPC tells of its own, in the same order."""

import asyncio
from typing import Any, Final

from cryptography import x509
from starlette.requests import Request

# In the state that uvicorn hands to each request of a connection.
PEER_NAMES: Final = "peer_names"
# A name that nobody has, so that its reader refuses the certificate: left out, it would look like none.
_NOT_A_NAME: Final = "\ufffd"
_COLON: Final = ":"


def names_shown(request: Request) -> tuple[str, ...]:
    """The URIs, then the DNS names, of the verified certificate that came with the request; none without one."""
    return tuple(request.scope.get("state", {}).get(PEER_NAMES, ()))


def names_of_peer(transport: asyncio.BaseTransport) -> tuple[str, ...]:
    """The same, of a connection whose handshake is over. Every URI has a colon and no DNS name has one."""
    connection: Any = transport.get_extra_info("ssl_object")
    encoded = connection.getpeercert(binary_form=True) if connection is not None else None
    if not encoded:
        return ()
    try:
        extensions = x509.load_der_x509_certificate(encoded).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return (_NOT_A_NAME,)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    dns_names = names.get_values_for_type(x509.DNSName)
    return (
        *(uri if _COLON in uri else _COLON + uri for uri in uris),
        *(name.replace(_COLON, _NOT_A_NAME) for name in dns_names),
    ) or (_NOT_A_NAME,)
