"""Certificates for a sandbox that asks who calls: an authority of its own, good for a month and for nothing else."""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME: Final = timedelta(days=30)
# Clocks of two machines may differ.
BACKDATED: Final = timedelta(minutes=5)
# As Kubernetes' secrets name them.
CA_FILE: Final = "ca.crt"
CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
OWNER_ONLY: Final = 0o600


class Authority:
    """Signs certificates, and forgets its key when the process ends."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("sandbox authority")
        basics = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = _builder(self._name, self._name, self._key.public_key()).add_extension(
            basics, critical=True
        )
        self._pem = _pem(self._certificate.sign(self._key, hashes.SHA256()))

    def issue(self, folder: Path, name: str, alternatives: Sequence[x509.GeneralName]) -> None:
        """Write the authority's certificate, and a new one with its key, into `folder`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_named(name), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CA_FILE).write_bytes(self._pem)
        (folder / CERTIFICATE_FILE).write_bytes(_pem(certificate))
        write_secret(folder / KEY_FILE, _pem_of_key(key))


def of_this_machine() -> list[x509.GeneralName]:
    """The names of a server that only this machine reaches."""
    return [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
        x509.IPAddress(ipaddress.IPv6Address("::1")),
    ]


def of_caller(spiffe_id: str) -> list[x509.GeneralName]:
    """The name of a caller."""
    return [x509.UniformResourceIdentifier(spiffe_id)]


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb") as file:
        file.write(content)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
