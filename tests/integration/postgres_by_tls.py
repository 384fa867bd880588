"""A Postgres server of its own that also listens on TCP, and shows a certificate there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.embedded_postgres.account import server_account
from tests.databases import folder_for_data


@contextmanager
def postgres_by_tls(authority: trustme.CA) -> Iterator[EmbeddedPostgres]:
    """Runs one, with a certificate of the authority."""
    with folder_for_data() as folder:
        certificate, key = folder / "tls.crt", folder / "tls.key"
        issued = authority.issue_cert("127.0.0.1")
        certificate.write_bytes(issued.cert_chain_pems[0].bytes())
        _write_key(key, issued.private_key_pem.bytes())
        if (account := server_account(None)) is not None:
            account.take(folder)
        files = {"ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        with EmbeddedPostgres(tcp_port=_free_port(), settings={"ssl": "on", **files}) as server:
            yield server


def _write_key(path: Path, pem: bytes) -> None:
    """Postgres refuses one that others may read."""
    path.touch(mode=0o600)
    path.write_bytes(pem)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
