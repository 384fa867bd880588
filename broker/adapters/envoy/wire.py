"""What goes over the wire to Envoy's token endpoint and comes back, without any I/O.

Sources: Envoy's "Get a token for public apps"; its Node SDK (`EnvoyUserAPI.ts`); RFC 6749 sections 2.3.1, 5, 6.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from broker.adapters.envoy import token_fields
from broker.adapters.envoy.retry_after import read_retry_after
from broker.adapters.json_object import REPEATED, UnreadableJson, parse_json_object
from broker.domain.apps import EnvoyApp
from broker.domain.errors import ClientRefused, GrantRefused, Limited, OutcomeUnknown, ProviderFault
from broker.domain.installs import IssuedTokens
from broker.domain.secret import Secret
from broker.domain.tokens import readable_token

# RFC 6749 section 5.2. What Envoy says beyond these codes is not documented.
_CLIENT_REFUSALS: Final = frozenset({"invalid_client", "unauthorized_client"})
_GRANT_REFUSAL: Final = "invalid_grant"
_OUR_FAULTS: Final = frozenset({"invalid_request", "invalid_scope", "unsupported_grant_type"})
_REFUSAL_STATUSES: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED})


class RequestForm(StrEnum):
    """How the fields are written: as in Envoy's documents, as RFC 6749 says, or as Envoy's Node SDK does."""

    MULTIPART = "multipart"
    URLENCODED = "urlencoded"
    JSON = "json"


class ClientAuthentication(StrEnum):
    """Where the client id and secret stand: in the body (Envoy's documents) or as HTTP Basic (its Node SDK)."""

    BODY = "body"
    BASIC = "basic"


class GrantType(StrEnum):
    """The two grants."""

    PLUGIN_INSTALL = "plugin_install"
    REFRESH_TOKEN = "refresh_token"


@dataclass(frozen=True, slots=True)
class Grant:
    """What is presented, and in which parameter."""

    grant_type: GrantType
    parameter: str
    value: str = field(repr=False)

    @classmethod
    def mint(cls, install_id: str) -> "Grant":
        """Ask for a first or a fresh pair of an install."""
        return cls(GrantType.PLUGIN_INSTALL, "install_id", install_id)

    @classmethod
    def refresh(cls, refresh_token: Secret) -> "Grant":
        """Ask for the next pair."""
        return cls(GrantType.REFRESH_TOKEN, "refresh_token", refresh_token.reveal())


@dataclass(frozen=True, slots=True, repr=False)
class TokenRequest:
    """A POST, ready to be sent. No repr: both parts may hold the client secret."""

    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What came back. `retry_after` and `date` are the headers of these names, None if absent."""

    status: int
    retry_after: str | None
    date: str | None
    body: bytes = field(repr=False)


def build_request(
    form: RequestForm,
    authentication: ClientAuthentication,
    app: EnvoyApp,
    grant: Grant,
    *,
    boundary: str,
) -> TokenRequest:
    """The request for one grant. `boundary` parts the multipart form: random, so that no value holds it."""
    headers = {"Accept": "application/json"}
    fields: dict[str, str] = {}
    if authentication is ClientAuthentication.BASIC:
        headers["Authorization"] = _basic(app)
    else:
        fields |= {"client_id": app.client_id, "client_secret": app.client_secret.reveal()}
    fields |= {grant.parameter: grant.value, "grant_type": grant.grant_type.value}
    headers["Content-Type"], content = _written(form, fields, boundary)
    return TokenRequest(headers, content)


def _written(form: RequestForm, fields: Mapping[str, str], boundary: str) -> tuple[str, bytes]:
    """The media type and the body."""
    match form:
        case RequestForm.MULTIPART:
            return f"multipart/form-data; boundary={boundary}", _multipart(fields, boundary)
        case RequestForm.URLENCODED:
            return "application/x-www-form-urlencoded", urlencode(fields, errors="surrogatepass").encode()
        case RequestForm.JSON:
            return "application/json", json.dumps(fields).encode()


def _basic(app: EnvoyApp) -> str:
    """Id and secret as they are, without RFC 6749's percent-encoding.

    Envoy documents no Basic; that its endpoint takes one is known from its Node SDK alone, which sends them so.
    Ids and secrets of unreserved characters are the same either way.
    """
    credentials = _encoded(f"{app.client_id}:{app.client_secret.reveal()}")
    return "Basic " + base64.b64encode(credentials).decode()


def _multipart(fields: Mapping[str, str], boundary: str) -> bytes:
    """RFC 7578, as curl's --form writes it."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return _encoded("".join(parts) + f"--{boundary}--\r\n")


def _encoded(text: str) -> bytes:
    """UTF-8 that never fails: an error would quote the secret. Envoy then refuses what is no text."""
    return text.encode(errors="surrogatepass")


def body_matters(status: int) -> bool:
    """Whether an answer is judged by its body; one of another status need not even arrive."""
    is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return _is_success(status) or (is_refusal and status != HTTPStatus.TOO_MANY_REQUESTS)


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def read_answer(answer: TokenAnswer, *, grant_type: GrantType, requested_at: datetime) -> IssuedTokens:
    """The pair that Envoy issued.

    Raises:
        Limited: status 429.
        GrantRefused, ClientRefused: Envoy says so in RFC 6749's words; or, with status 400 or 401 and in no
            words we know, it refused the refresh token (the protocol then mints) or, 401 to a mint, the app.
            Nothing else is a refusal: a wrong one would disable an install for good.
        OutcomeUnknown: anything else.
    """
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Limited(read_retry_after(answer.retry_after, answer.date, requested_at))
    if not body_matters(answer.status):
        is_redirect = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST
        kind = "redirect" if is_redirect else f"status_{answer.status}"
        raise OutcomeUnknown(kind, read_retry_after(answer.retry_after, answer.date, requested_at))
    unreadable = ""
    document: dict[str, object] = {}
    try:
        document = parse_json_object(answer.body)
    except UnreadableJson as error:
        unreadable = error.kind
    if not _is_success(answer.status):
        raise _refusal(document, answer.status, grant_type)
    if unreadable:
        raise OutcomeUnknown(unreadable)
    return _issued(document, grant_type, requested_at)


def _issued(document: Mapping[str, object], grant_type: GrantType, requested_at: datetime) -> IssuedTokens:
    if REPEATED in (document.get("access_token"), document.get("refresh_token")):
        raise OutcomeUnknown("repeated_token")
    access_token = readable_token(document.get("access_token"))
    if access_token is None:
        verdict = _verdict(document)
        raise verdict or OutcomeUnknown("error_in_success" if "error" in document else "no_access_token")
    return IssuedTokens(
        access_token=access_token,
        token_type=token_fields.token_type(document.get("token_type")),
        requested_at=requested_at,
        expires_in=token_fields.access_token_lifetime(document.get("expires_in")),
        refresh_token=readable_token(document.get("refresh_token")),
        refresh_token_expires_in=token_fields.refresh_token_lifetime(
            document.get("refresh_token_expires_in")
        ),
        company_id=token_fields.company_id(document.get("company_id")),
        minted=grant_type is GrantType.PLUGIN_INSTALL,
    )


def _verdict(document: Mapping[str, object]) -> ProviderFault | None:
    match document.get("error"):
        case str(code) if code in _CLIENT_REFUSALS:
            return ClientRefused(code, named=True)
        case str(code) if code == _GRANT_REFUSAL:
            return GrantRefused(code)
    return None


def _refusal(document: Mapping[str, object], status: int, grant_type: GrantType) -> ProviderFault:
    kind = f"status_{status}"
    if verdict := _verdict(document):
        return verdict
    if grant_type is GrantType.REFRESH_TOKEN and status in _REFUSAL_STATUSES:
        return GrantRefused(kind)
    code = document.get("error")
    if isinstance(code, str) and code in _OUR_FAULTS:
        return OutcomeUnknown(code)
    return ClientRefused(kind) if status == HTTPStatus.UNAUTHORIZED else OutcomeUnknown(kind)
