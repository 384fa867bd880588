"""Callers' certificates. Each line of the input is a name: a URI as it is, or a DNS name behind `dns `."""

from typing import Final

from broker.adapters.identity.certificates import certificate_caller
from broker.adapters.identity.refusals import Refusal
from broker.api.certificate_names import certificate_names
from broker.domain.errors import CallerUnauthenticated

ENDS: Final = frozenset(
    {
        "SPIFFE id",
        "DNS name",
        Refusal.NO_CERTIFICATE,
        Refusal.CERTIFICATE_WITHOUT_NAME,
        Refusal.SEVERAL_SPIFFE_IDS,
        Refusal.NAME_MALFORMED,
    }
)

DNS: Final = b"dns "


def try_one(data: bytes) -> str:
    """Name the caller, as gRPC would tell of its certificate."""
    names = data.split(b"\n") if data else []
    uris = [name for name in names if not name.startswith(DNS)]
    dns_names = [name.removeprefix(DNS) for name in names if name.startswith(DNS)]
    try:
        caller = certificate_caller(certificate_names({"peer_uri": uris, "peer_dns": dns_names}))
    except CallerUnauthenticated as refused:
        return refused.why
    assert caller.isprintable()
    if caller.startswith("spiffe://"):
        assert [caller.encode()] == [uri for uri in uris if b":" in uri], "another URI stood beside it"
        return "SPIFFE id"
    assert caller.encode() == dns_names[0].lower(), "a name that is not the first was taken"
    assert not any(uri.lower().startswith(b"spiffe:") for uri in uris), "a SPIFFE id was passed over"
    return "DNS name"
