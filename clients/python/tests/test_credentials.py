"""Who calls, from files that change, and by real TLS."""

import asyncio
import logging
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from clients.python.tests.askers import KINDS, opened
from clients.python.tests.fake_broker import FakeBroker, serving
from tokenbroker.client import BrokerUnreachable, Credentials
from tokenbroker.client.credentials import MAX_FILE_BYTES, Proofs


class Files:
    """An authority, and what it gives to a caller."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.certificate = folder / "certificate.pem"
        self.key = folder / "key.pem"
        self.token = folder / "token"
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue("first")
        replace(self.token, "token-1\n")

    def issue(self, name: str) -> None:
        """Another certificate with its key."""
        issued = self.authority.issue_cert(name)
        replace(self.key, issued.private_key_pem.bytes().decode())
        replace(self.certificate, "".join(each.bytes().decode() for each in issued.cert_chain_pems))

    def credentials(self) -> Credentials:
        """All of them."""
        return Credentials.tls(
            ca_file=self.ca, certificate_file=self.certificate, key_file=str(self.key), token_file=self.token
        )


def replace(file: Path, content: str) -> None:
    """As tools that renew files do it."""
    new = file.with_suffix(".new")
    new.write_text(content)
    new.replace(file)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Good ones."""
    return Files(tmp_path)


class Peers(FakeBroker):
    """Notes by what name each caller's certificate knows him."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def _note(self, rpc: str, context: Any) -> None:
        super()._note(rpc, context)
        self.names += [
            bytes(name).decode() for name in context.auth_context()["x509_subject_alternative_name"]
        ]


@pytest.fixture
def secured(files: Files) -> Iterator[Peers]:
    """A broker that asks for certificates."""
    own = files.authority.issue_cert("127.0.0.1")
    chain = b"".join(each.bytes() for each in own.cert_chain_pems)
    pair = (own.private_key_pem.bytes(), chain)
    credentials = grpc.ssl_server_credentials([pair], files.ca.read_bytes(), require_client_auth=True)
    with serving(Peers(), credentials) as broker:
        assert isinstance(broker, Peers)
        yield broker


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_certificate_and_token_are_shown_and_replaced_ones_taken_up(
    kind: str, files: Files, secured: Peers
) -> None:
    """Certificates live for hours; services for weeks. The call under way on the old connection goes on."""
    async with opened(kind, secured.target, credentials=files.credentials()) as asker:
        held = secured.hold()
        waiting = asyncio.create_task(asker.token("a"))
        await asyncio.to_thread(held.wait_for_one)
        files.issue("second")
        replace(files.token, "token-2")
        secured.held = None
        await asker.token("b")
        await asker.token("c")
        held.opened.set()
        await waiting
    assert secured.names == ["first", "second", "second"]
    assert [call["authorization"] for _, call in secured.calls] == ["Bearer token-1"] + 2 * ["Bearer token-2"]


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_broken_file_is_not_taken_up(kind: str, files: Files, secured: Peers) -> None:
    """A file that is half written must not end a service."""
    async with opened(kind, secured.target, credentials=files.credentials()) as asker:
        await asker.token("a")
        replace(files.certificate, files.certificate.read_text()[:100])
        files.token.unlink()
        await asker.token("b")
    assert secured.names == ["first", "first"]
    assert [call["authorization"] for _, call in secured.calls] == ["Bearer token-1"] * 2


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_list_of_addresses_is_verified_by_the_first(kind: str, files: Files, secured: Peers) -> None:
    """GRPC would look for the whole list in the certificate."""
    target = f"ipv4:127.0.0.1:{secured.port},127.0.0.1:{secured.port}"
    async with opened(kind, target, credentials=files.credentials()) as asker:
        assert (await asker.token("a")).generation == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_broker_of_another_authority_is_not_believed(
    kind: str, files: Files, secured: Peers, tmp_path: Path
) -> None:
    """Whoever stands in its place would be handed the caller's token."""
    (tmp_path / "other").mkdir()
    stranger = Files(tmp_path / "other")
    files.ca.write_bytes(stranger.ca.read_bytes())
    async with opened(kind, secured.target, credentials=files.credentials()) as asker:
        with pytest.raises(BrokerUnreachable):
            await asker.token("a")
    assert secured.calls == []


def test_key_of_another_certificate_is_not_taken(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Between the two files' renewal they don't fit. It is said once, and without their content."""
    proofs = Proofs(files.credentials())
    before = proofs.material()
    key = files.key.read_text()
    files.issue("second")
    renewed = files.key.read_text()
    replace(files.key, key)
    with caplog.at_level(logging.WARNING):
        assert [proofs.material() for _ in range(3)] == [before] * 3
    assert len(caplog.records) == 1
    assert "PRIVATE" not in caplog.text
    replace(files.key, renewed)
    assert proofs.material() != before


def test_files_that_change_while_they_are_read_are_not_taken(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked must be what is used."""
    proofs = Proofs(files.credentials())
    before = proofs.material()
    files.issue("second")

    class Renewing(ssl.SSLContext):
        def load_cert_chain(self, *_arguments: object, **_options: object) -> None:
            files.issue("third")

    monkeypatch.setattr(ssl, "SSLContext", Renewing)
    assert proofs.material() == before
    monkeypatch.undo()
    assert proofs.material() != before


def test_file_that_is_written_in_place_is_read_when_it_is_whole(files: Files) -> None:
    """Not every tool replaces files."""
    proofs = Proofs(files.credentials())
    files.token.write_text("")
    assert proofs.bearer() == "token-1"
    files.token.write_text("token-2")
    assert proofs.bearer() == "token-2"


def test_file_that_was_not_touched_is_not_read(files: Files) -> None:
    """It is asked about at each call: a look must be cheap."""
    proofs = Proofs(files.credentials())
    stat = files.token.stat()
    files.token.write_text("TOKEN-1\n")
    os.utime(files.token, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert proofs.bearer() == "token-1"


@pytest.mark.parametrize(
    "content", ["", " \n", "two words", "two\nlines", "töken", "x" * (MAX_FILE_BYTES + 1)]
)
def test_what_is_no_token_is_refused_at_the_start(files: Files, content: str) -> None:
    """A header that can't be sent would fail every call, and gRPC's error might show it."""
    files.token.write_text(content)
    with pytest.raises(ValueError, match="token"):
        Proofs(files.credentials())


@pytest.mark.parametrize("name", ["ca", "certificate", "key", "token"])
def test_file_that_is_missing_is_told_at_the_start(files: Files, name: str) -> None:
    """And not at the first call."""
    file: Path = getattr(files, name)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=file.name):
        Proofs(files.credentials())


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
def test_file_that_is_no_pem_is_told_at_the_start(files: Files, name: str) -> None:
    """GRPC itself would only fail to connect."""
    getattr(files, name).write_text("no PEM")
    with pytest.raises(OSError, match=r"."):
        Proofs(files.credentials())


@pytest.mark.parametrize(
    "options",
    [
        {"token_file": Path("token"), "is_insecure": True},
        {"ca_file": Path("ca"), "is_insecure": True},
        {"certificate_file": Path("certificate")},
        {"key_file": Path("key")},
    ],
)
def test_credentials_that_contradict_each_other_are_refused(options: dict[str, Path]) -> None:
    """A bearer token in the clear is everybody's."""
    with pytest.raises(ValueError, match=r"given|belong"):
        Credentials(**options)  # type: ignore[arg-type] # a flag among files
