"""The caller's name by its certificate: one, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.identity.certificates import (
    MAX_DNS_NAME_CHARACTERS,
    MAX_SPIFFE_ID_CHARACTERS,
    certificate_caller,
)
from broker.api.certificate_names import certificate_names
from broker.domain.errors import CallerUnauthenticated

SPIFFE_ID = "spiffe://envoy.example/ns/visitors/sa/badge-printer"
LONGEST_PATH = "a" * (MAX_SPIFFE_ID_CHARACTERS - len("spiffe://envoy.example/"))


def refusal(*names: str) -> str:
    """Why the names are refused."""
    with pytest.raises(CallerUnauthenticated) as refused:
        certificate_caller(names)
    return refused.value.why


@pytest.mark.parametrize(
    "spiffe_id",
    [SPIFFE_ID, "spiffe://a/b", "spiffe://a_b-1.c/.../A_b-.", f"spiffe://envoy.example/{LONGEST_PATH}"],
)
def test_spiffe_id_names_the_caller(spiffe_id: str) -> None:
    """To the letter: a policy names callers by it."""
    assert certificate_caller([spiffe_id]) == spiffe_id
    assert certificate_caller(["printer.example", spiffe_id]) == spiffe_id


def test_dns_name_names_the_caller_without_a_spiffe_id() -> None:
    """The first one, in lower case, since DNS knows no other; another kind of URI beside it means nothing here."""
    assert certificate_caller(["Printer.Example", "other.example"]) == "printer.example"
    assert certificate_caller(["https://printer.example/", "printer.example"]) == "printer.example"


@pytest.mark.parametrize("other", ["spiffe://envoy.example/other", "https://printer.example/", SPIFFE_ID])
def test_spiffe_id_with_another_uri_is_refused(other: str) -> None:
    """X509-SVID, section 2: whoever reads such a certificate could take it for another caller's than we."""
    assert refusal(SPIFFE_ID, other) == "several_spiffe_ids"
    assert refusal(other, SPIFFE_ID) == "several_spiffe_ids"


@pytest.mark.parametrize(
    "name",
    [
        "spiffe://",
        "spiffe:///path",
        "spiffe://envoy.example",
        "spiffe://envoy.example/",
        f"{SPIFFE_ID}/",
        "spiffe://envoy.example//a",
        "spiffe://envoy.example/./a",
        "spiffe://envoy.example/..",
        "spiffe://Envoy.example/a",
        "spiffe://envoy.example:443/a",
        "spiffe://user@envoy.example/a",
        "spiffe://envoy.example/a?b",
        "spiffe://envoy.example/a#b",
        "spiffe://envoy.example/%61",
        "spiffe://envoy.example/\u0430",
        f"{SPIFFE_ID}\n",
        "SPIFFE://envoy.example/a",
        "spiffe:envoy.example/a",
        f"spiffe://{'a' * 256}/b",
        f"spiffe://envoy.example/{LONGEST_PATH}a",
    ],
)
def test_malformed_spiffe_id_is_refused(name: str) -> None:
    """And no DNS name takes its place: whoever issued the certificate meant something else."""
    assert refusal(name, "printer.example") == "name_malformed"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*.example",
        "printer.example.",
        ".example",
        "a..b",
        "-a.example",
        "a-.example",
        "a b",
        "a\n",
        "pr\u0131nter.example",
        f"{'a' * 64}.example",
        ".".join(["a" * 49] * 5) + "." + "b" * (MAX_DNS_NAME_CHARACTERS - 249),
    ],
)
def test_malformed_dns_name_is_refused(name: str) -> None:
    """The one behind it does not take its place."""
    assert refusal(name, "printer.example") == "name_malformed"


def test_certificate_without_a_name_is_refused() -> None:
    """No certificate, and one that names no host and no workload."""
    assert refusal() == "no_certificate"
    assert refusal("https://printer.example/") == "certificate_without_name"


@given(st.lists(st.text(max_size=300), max_size=4))
def test_f46_whatever_a_certificate_says_ends_in_a_plain_name_or_a_refusal(names: list[str]) -> None:
    """A name goes into logs, records and policies: visible ASCII, and not too long."""
    try:
        name = certificate_caller(names)
    except CallerUnauthenticated:
        return
    assert name.isascii()
    assert name.isprintable()
    assert 0 < len(name) <= MAX_SPIFFE_ID_CHARACTERS


def test_names_are_taken_by_their_kind() -> None:
    """An e-mail address, in gRPC's list of all names, can read like a SPIFFE id."""
    context = {
        "transport_security_type": [b"ssl"],
        "x509_subject_alternative_name": [b"printer.example", b"spiffe://evil/caller", SPIFFE_ID.encode()],
        "peer_dns": [b"printer.example"],
        "peer_email": [b"spiffe://evil/caller"],
        "peer_uri": [SPIFFE_ID.encode()],
    }
    assert certificate_names(context) == (SPIFFE_ID, "printer.example")
    assert certificate_names({"transport_security_type": [b"insecure"]}) == ()


def test_dns_name_that_reads_like_a_spiffe_id_names_nobody() -> None:
    """Authorities look at the two kinds with different care."""
    assert refusal(*certificate_names({"peer_dns": [SPIFFE_ID.encode()]})) == "name_malformed"
    names = certificate_names({"peer_uri": [b"printer.example"], "peer_dns": []})
    assert refusal(*names) == "certificate_without_name"


def test_name_that_is_no_ascii_keeps_its_place() -> None:
    """Left out, the next one would name the caller, or a second SPIFFE id go unseen."""
    assert (
        refusal(*certificate_names({"peer_dns": [b"\xff.example", b"printer.example"]})) == "name_malformed"
    )
    context = {"peer_uri": [SPIFFE_ID.encode(), b"\xff\xfe"]}
    assert refusal(*certificate_names(context)) == "several_spiffe_ids"
