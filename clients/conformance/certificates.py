"""Certificates, a key and a bearer token in a folder, as a client is given them; and the gates' own."""

from pathlib import Path
from typing import Final

import grpc
import trustme

CA: Final = "ca.pem"
CERTIFICATE: Final = "certificate.pem"
KEY: Final = "key.pem"
TOKEN: Final = "token"  # noqa: S105 (a file name)
# The authority in `ca_file` is not the one that signed the gates' certificates.
ANOTHER: Final = "another"
FILES: Final = {"ca_file": CA, "certificate_file": CERTIFICATE, "key_file": KEY, "token_file": TOKEN}


class CredentialFiles:
    """One authority's. Attributes: folder: where the client reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = trustme.CA()

    def server(self, *, mutual: bool) -> grpc.ServerCredentials:
        """Of a gate; `mutual`: a client must show a certificate of the same authority."""
        own = self._authority.issue_cert("127.0.0.1", "localhost")
        chain = b"".join(blob.bytes() for blob in own.cert_chain_pems)
        authority = self._authority.cert_pem.bytes() if mutual else None
        return grpc.ssl_server_credentials(
            [(own.private_key_pem.bytes(), chain)], authority, require_client_auth=mutual
        )

    def write_authority(self, *, is_own: bool) -> None:
        """Whom the client trusts: the authority of the gates' certificates, or another."""
        authority = self._authority if is_own else trustme.CA()
        self._replace(CA, authority.cert_pem.bytes())

    def write_certificate(self, name: str) -> None:
        """A client's, with its key; `name` is its DNS name. Replaced whole, as tools that renew them do it."""
        issued = self._authority.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self._replace(KEY, issued.private_key_pem.bytes())
        self._replace(CERTIFICATE, chain)

    def write(self, file: str, text: str) -> None:
        """Any text, in a file of FILES by its option's name."""
        self._replace(FILES[file], text.encode())

    def _replace(self, name: str, content: bytes) -> None:
        new = self.folder / f"{name}.new"
        new.write_bytes(content)
        new.replace(self.folder / name)
