"""Who calls, and what for."""

from enum import StrEnum
from typing import NamedTuple

from broker.domain.secret import Secret


class Operation(StrEnum):
    """What a policy gives or refuses, by the names of the RPCs.

    BatchGetTokens is GET_TOKEN for each of its installs. VOUCH_FOR_WEBHOOK is AcceptRouteWebhook in its unsigned form.
    """

    GET_TOKEN = "GetToken"  # noqa: S105 (an RPC)
    REPORT_REJECTED_TOKEN = "ReportRejectedToken"  # noqa: S105 (likewise)
    WATCH_TOKENS = "WatchTokens"
    ACCEPT_ROUTE_WEBHOOK = "AcceptRouteWebhook"
    VOUCH_FOR_WEBHOOK = "VouchForWebhook"
    GET_INSTALL = "GetInstall"
    LIST_INSTALLS = "ListInstalls"
    REFRESH_INSTALL = "RefreshInstall"
    DELETE_INSTALL = "DeleteInstall"


class KnownBy(StrEnum):
    """How a caller was recognised. NOTHING: the broker was told to serve anybody."""

    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105 (a kind)
    NOTHING = "nothing"


class Caller(NamedTuple):
    """A caller that has proved who it is.

    Attributes:
        name: a SPIFFE id, a DNS name, or the subject of a JWT, as the policy names it.
    """

    name: str
    known_by: KnownBy


class Credentials(NamedTuple):
    """What a caller showed.

    Attributes:
        certificate_names: the SPIFFE ids (URIs) and DNS names of its verified client certificate, in its order.
        bearer: what stood behind `Bearer ` in the metadata's `authorization`; None without.
    """

    certificate_names: tuple[str, ...]
    bearer: Secret | None


class Subject(NamedTuple):
    """What an operation touches. An id that is not known, or does not matter, is ""."""

    plugin_id: str
    install_id: str = ""
    company_id: str = ""
