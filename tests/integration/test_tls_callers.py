"""Mutual TLS on a real gRPC server: who gets through the handshake, and by which name."""

from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from broker.adapters.clock import SteadyClock
from broker.adapters.identity.certificates import certificate_caller
from broker.api.tls import ServerTls
from broker.domain.errors import CallerUnauthenticated
from tests.certificates_of_callers import HOUR, issue
from tests.integration.served_tls import is_refused, names_seen, served, tls_files

SPIFFE_ID = "spiffe://envoy.example/ns/visitors/sa/badge-printer"


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Whose certificates the server has and believes."""
    authority = trustme.CA()
    issue(authority, "localhost").write(tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    return authority


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> ServerTls:
    """Mutual TLS by the authority."""
    del authority  # has written the files
    return ServerTls(tls_files(tmp_path), SteadyClock())


async def test_caller_is_named_by_its_certificate(authority: trustme.CA, tls: ServerTls) -> None:
    """Through gRPC's own words for it: a SPIFFE id before a DNS name, whatever their order."""
    async with served(tls) as address:
        names = await names_seen(address, authority, issue(authority, "printer.example", SPIFFE_ID))
        assert names == [SPIFFE_ID, "printer.example"]
        assert certificate_caller(names) == SPIFFE_ID
        names = await names_seen(address, authority, issue(authority, "Printer.example", "other.example"))
        assert certificate_caller(names) == "printer.example"


async def test_certificate_of_two_workloads_is_nobodys(authority: trustme.CA, tls: ServerTls) -> None:
    """TLS lets it through; the name is refused."""
    async with served(tls) as address:
        names = await names_seen(
            address, authority, issue(authority, SPIFFE_ID, f"{SPIFFE_ID}-2", "a.example")
        )
    with pytest.raises(CallerUnauthenticated) as refused:
        certificate_caller(names)
    assert refused.value.why == "several_spiffe_ids"


async def test_e_mail_address_is_no_spiffe_id(authority: trustme.CA, tls: ServerTls) -> None:
    """An authority that lets a caller choose an address does not let it choose a name."""
    mail = x509.RFC822Name._init_without_validation(SPIFFE_ID)  # what a careless authority would do
    async with served(tls) as address:
        names = await names_seen(address, authority, issue(authority, mail, "printer.example"))
    assert names == ["printer.example"]


async def test_f46_expired_certificate_does_not_get_through(authority: trustme.CA, tls: ServerTls) -> None:
    """Though the authority is ours."""
    async with served(tls) as address:
        assert await is_refused(
            address, authority, issue(authority, SPIFFE_ID, ends_in=timedelta(seconds=-1))
        )
        assert not await is_refused(address, authority, issue(authority, SPIFFE_ID))


async def test_f46_certificate_that_is_not_yet_valid_does_not_get_through(
    authority: trustme.CA, tls: ServerTls
) -> None:
    """Likewise."""
    future = issue(authority, SPIFFE_ID, begins_in=HOUR, ends_in=2 * HOUR)
    async with served(tls) as address:
        assert await is_refused(address, authority, future)


async def test_f46_certificate_of_another_authority_does_not_get_through(
    authority: trustme.CA, tls: ServerTls
) -> None:
    """Even one that calls itself by the same name."""
    async with served(tls) as address:
        assert await is_refused(address, authority, issue(trustme.CA(), SPIFFE_ID))


async def test_f46_caller_without_a_certificate_does_not_get_through(
    authority: trustme.CA, tls: ServerTls
) -> None:
    """No handler, and no health check, ever sees it."""
    async with served(tls) as address:
        assert await is_refused(address, authority)


async def test_without_client_authorities_nobody_is_named(authority: trustme.CA, tmp_path: Path) -> None:
    """A certificate that was not verified names nobody; such callers show a token."""
    tls = ServerTls(tls_files(tmp_path, mutual=False), SteadyClock())
    async with served(tls) as address:
        assert await names_seen(address, authority) == [""]
        assert await names_seen(address, authority, issue(trustme.CA(), SPIFFE_ID)) == [""]
