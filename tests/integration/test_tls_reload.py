"""Certificates and trust that change on disk while a real gRPC server serves."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP521R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from broker.api.tls import LOOK_INTERVAL, MAX_FILE_BYTES, BadTlsFile, ServerTls, certificate_end
from tests.certificates_of_callers import HOUR, Issued, PrivateKey, issue
from tests.fakes.clock import FakeClock
from tests.integration.served_tls import SETTING, is_refused, names_seen, served, tls_files
from tests.tokens_of_callers import RSA_KEY

SPIFFE_ID = "spiffe://envoy.example/ns/visitors/sa/badge-printer"
OLD, NEW = trustme.CA(), trustme.CA()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The server's files, of the old authority."""
    issue(OLD, "localhost").write(tmp_path)
    OLD.cert_pem.write_to_path(tmp_path / "ca.crt")
    return tmp_path


async def test_new_certificate_is_served_without_a_restart(folder: Path) -> None:
    """Short-lived certificates are renewed every few hours, by others."""
    clock, caller = FakeClock(), issue(OLD, SPIFFE_ID)
    tls = ServerTls(tls_files(folder), clock)
    async with served(tls) as address:
        assert await names_seen(address, OLD, caller) == [SPIFFE_ID]
        issue(NEW, "localhost", ends_in=5 * HOUR).write(folder)
        clock.advance(LOOK_INTERVAL)
        assert await names_seen(address, NEW, caller) == [SPIFFE_ID]
        assert await is_refused(address, OLD, caller)
        assert tls.certificate_ends_at > datetime.now(UTC) + 4 * HOUR


async def test_f46_caller_of_a_removed_authority_does_not_get_through(folder: Path) -> None:
    """Trust is moved by a bundle of both, and then the new one alone."""
    clock = FakeClock()
    tls = ServerTls(tls_files(folder), clock)
    old, new = issue(OLD, SPIFFE_ID), issue(NEW, f"{SPIFFE_ID}-2")
    async with served(tls) as address:
        assert await is_refused(address, OLD, new)
        (folder / "ca.crt").write_bytes(OLD.cert_pem.bytes() + NEW.cert_pem.bytes())
        clock.advance(LOOK_INTERVAL)
        assert await names_seen(address, OLD, new) == [f"{SPIFFE_ID}-2"]
        assert await names_seen(address, OLD, old) == [SPIFFE_ID]
        NEW.cert_pem.write_to_path(folder / "ca.crt")
        clock.advance(LOOK_INTERVAL)
        assert await is_refused(address, OLD, old)
        assert await names_seen(address, OLD, new) == [f"{SPIFFE_ID}-2"]


async def test_files_swapped_as_kubernetes_does_are_seen(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By a symbolic link that leads elsewhere from one moment to the next."""
    clock, mount = FakeClock(), tmp_path_factory.mktemp("mount")
    (mount / "data").symlink_to(folder)
    tls = ServerTls(tls_files(mount / "data"), clock)
    later = tmp_path_factory.mktemp("later")
    issue(NEW, "localhost").write(later)
    NEW.cert_pem.write_to_path(later / "ca.crt")
    async with served(tls) as address:
        assert not await is_refused(address, OLD, issue(OLD, SPIFFE_ID))
        (mount / "next").symlink_to(later)
        (mount / "next").replace(mount / "data")
        clock.advance(LOOK_INTERVAL)
        assert await names_seen(address, NEW, issue(NEW, SPIFFE_ID)) == [SPIFFE_ID]


BROKEN: dict[str, Callable[[Path], object]] = {
    "a key that does not fit": lambda folder: (folder / "tls.key").write_bytes(issue(OLD, "localhost").key),
    "half a certificate": lambda folder: (folder / "tls.crt").write_bytes(
        (folder / "tls.crt").read_bytes()[:200]
    ),
    "no key": lambda folder: (folder / "tls.key").unlink(),
    "an empty bundle": lambda folder: (folder / "ca.crt").write_bytes(b""),
    "no bundle": lambda folder: (folder / "ca.crt").unlink(),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_broken_files_leave_the_old_ones_in_use_and_are_logged_once(folder: Path, kind: str) -> None:
    """A half-written pair is no reason to stop serving; a bundle that is gone is none to trust nobody or anybody."""
    clock, caller = FakeClock(), issue(OLD, SPIFFE_ID)
    tls = ServerTls(tls_files(folder), clock)
    async with served(tls) as address:
        BROKEN[kind](folder)
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                clock.advance(LOOK_INTERVAL)
                assert await names_seen(address, OLD, caller) == [SPIFFE_ID]
                assert await is_refused(address, OLD, issue(NEW, SPIFFE_ID))
        assert [(line["event"], line["log_level"]) for line in lines] == [("tls.files_refused", "error")]
        assert lines[0]["problem"].startswith(SETTING)
        issue(NEW, "localhost").write(folder)
        NEW.cert_pem.write_to_path(folder / "ca.crt")
        clock.advance(LOOK_INTERVAL)
        assert await names_seen(address, NEW, issue(NEW, SPIFFE_ID)) == [SPIFFE_ID]


async def test_files_are_looked_at_once_an_interval(folder: Path) -> None:
    """A flood of connections is no flood of reads."""
    clock = FakeClock()
    tls = ServerTls(tls_files(folder), clock)
    async with served(tls) as address:
        issue(NEW, "localhost").write(folder)
        clock.advance(LOOK_INTERVAL - timedelta(microseconds=1))
        assert await is_refused(address, NEW, issue(OLD, SPIFFE_ID))
        clock.advance(timedelta(microseconds=1))
        assert not await is_refused(address, NEW, issue(OLD, SPIFFE_ID))


async def test_each_port_is_told_of_what_is_new(folder: Path) -> None:
    """It is asked for by each port; what one was told, the other still has to hear."""
    clock, caller = FakeClock(), issue(OLD, SPIFFE_ID)
    tls = ServerTls(tls_files(folder), clock)
    async with served(tls) as one, served(tls) as other:
        issue(NEW, "localhost").write(folder)
        clock.advance(LOOK_INTERVAL)
        for address in (one, other):
            assert await names_seen(address, NEW, caller) == [SPIFFE_ID]


def _issued(key: PrivateKey) -> Issued:
    return issue(OLD, "localhost", key=key)


def _put_a_folder_in_its_place(folder: Path) -> None:
    (folder / "tls.crt").unlink()
    (folder / "tls.crt").mkdir()


UNSERVABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no certificate": (
        lambda folder: (folder / "tls.crt").unlink(),
        "CERTIFICATE must name a file that can be read",
    ),
    "a folder": (
        _put_a_folder_in_its_place,
        "CERTIFICATE must name a file that can be read",
    ),
    "an endless file": (
        lambda folder: (folder / "tls.crt").write_bytes(b" " * (MAX_FILE_BYTES + 1)),
        "CERTIFICATE must name a file of at most",
    ),
    "a file without certificates": (
        lambda folder: (folder / "tls.crt").write_bytes(b"nothing"),
        "CERTIFICATE must name a file with certificates in PEM",
    ),
    "a certificate for a key": (
        lambda folder: (folder / "tls.key").write_bytes((folder / "tls.crt").read_bytes()),
        "KEY must name a file with a private key in PEM",
    ),
    "another key": (
        lambda folder: (folder / "tls.key").write_bytes(issue(OLD, "localhost").key),
        "KEY must name the private key of the first certificate in TOKEN_BROKER_TLS_CERTIFICATE",
    ),
    "an Ed25519 key": (
        lambda folder: _issued(Ed25519PrivateKey.generate()).write(folder),
        "KEY must name a file with an",
    ),
    "a key on P-521": (
        lambda folder: _issued(generate_private_key(SECP521R1())).write(folder),
        "KEY must name a file with an RSA key",
    ),
    "a short key": (
        lambda folder: _issued(generate_rsa_key(65537, 1024)).write(folder),  # noqa: S505  # to be refused
        "KEY must name a file with an RSA key of 2048",
    ),
    "no bundle": (lambda folder: (folder / "ca.crt").unlink(), "CLIENT_CA must name a file that can be read"),
    "an empty bundle": (lambda folder: (folder / "ca.crt").write_bytes(b""), "CLIENT_CA must name"),
    "a bundle of nothing": (
        lambda folder: (folder / "ca.crt").write_bytes(b"nothing"),
        "CLIENT_CA must name",
    ),
}


@pytest.mark.parametrize("kind", UNSERVABLE)
def test_bad_file_is_refused_at_the_start_by_its_setting(folder: Path, kind: str) -> None:
    """In a sentence that says which setting, and holds nothing of a key."""
    spoil, sentence = UNSERVABLE[kind]
    spoil(folder)
    with pytest.raises(BadTlsFile, match=f"^{SETTING}{sentence}") as refused:
        ServerTls(tls_files(folder), FakeClock())
    assert refused.value.__cause__ is None


async def test_rsa_key_is_served(folder: Path) -> None:
    """What most authorities of companies issue."""
    _issued(RSA_KEY).write(folder)
    async with served(ServerTls(tls_files(folder), FakeClock())) as address:
        assert await names_seen(address, OLD, issue(OLD, SPIFFE_ID)) == [SPIFFE_ID]


def test_certificates_end_is_told(folder: Path) -> None:
    """For the doctor: of the server's own certificate, whatever stands behind it in the file."""
    files = tls_files(folder)
    end = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes()).not_valid_after_utc
    with (folder / "tls.crt").open("ab") as file:
        file.write(OLD.cert_pem.bytes())
    assert certificate_end(files.certificate) == ServerTls(files, FakeClock()).certificate_ends_at == end
    with pytest.raises(BadTlsFile):
        certificate_end(files.key)
