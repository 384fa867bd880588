"""Reads a token request in every form that Envoy's documents and clients use.

Multipart form (the documents), JSON with HTTP Basic (the Node SDK), urlencoded form (RFC 6749), and each
with the credentials in the body or in the Authorization header.
"""

import base64
import json
import urllib.parse
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from broker.domain.secret import Secret

MAX_BODY_BYTES = 1_048_576
MAX_FIELDS = 100

FORMS = {
    "multipart/form-data": "multipart",
    "application/x-www-form-urlencoded": "urlencoded",
    "application/json": "json",
}


class MalformedTokenRequestError(Exception):
    """RFC 6749's invalid_request; the message is the error_description and holds no value of a field."""


@dataclass(frozen=True)
class Credentials:
    """Who asks. ``place`` is where it said so: "body", "basic", "both", "none"."""

    client_id: str | None
    client_secret: Secret | None
    place: str


@dataclass(frozen=True)
class TokenRequest:
    """A token request, understood."""

    form: str
    credentials: Credentials
    grant_type: str
    install_id: str | None
    refresh_token: Secret | None


def form_of(headers: Headers) -> str | None:
    """Which of the three forms the request says its body is in."""
    return FORMS.get(headers.get("content-type", "").partition(";")[0].strip().lower())


async def parse_token_request(headers: Headers, body: bytes) -> TokenRequest:
    """Understands a token request.

    Raises:
        MalformedTokenRequestError: It is in no known form, or a parameter is repeated, missing, or no text.
    """
    form = form_of(headers)
    if form is None:
        raise MalformedTokenRequestError(f"Content-Type must be one of {', '.join(FORMS)}.")
    fields = await _fields(form, headers, body)
    secret = fields.get("client_secret")
    return TokenRequest(
        form=form,
        credentials=_credentials(headers, fields.get("client_id"), Secret(secret) if secret else None),
        grant_type=_required(fields, "grant_type"),
        install_id=fields.get("install_id"),
        refresh_token=Secret(fields["refresh_token"]) if fields.get("refresh_token") else None,
    )


async def _fields(form: str, headers: Headers, body: bytes) -> dict[str, str]:
    """The named parameters as text; ones this endpoint has no use for are left alone."""
    if form == "json":
        return _json_fields(body)
    if form == "multipart":
        return _once_each(await _multipart_pairs(headers, body))
    try:
        return _once_each(urllib.parse.parse_qsl(body.decode(), max_num_fields=MAX_FIELDS))
    except ValueError:
        raise MalformedTokenRequestError("The urlencoded form can't be read.") from None


async def _multipart_pairs(headers: Headers, body: bytes) -> list[tuple[str, str]]:
    try:
        parser = MultiPartParser(headers, _once(body), max_files=0, max_fields=MAX_FIELDS)
        parsed = await parser.parse()
    except (MultiPartException, KeyError, ValueError):  # python-multipart's own errors are ValueErrors
        raise MalformedTokenRequestError("The multipart form can't be read.") from None
    return [(name, value) for name, value in parsed.multi_items() if isinstance(value, str)]


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    yield b""


def _once_each(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """RFC 6749 section 3.2: parameters must not be included more than once."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise MalformedTokenRequestError(f"{_shown(name)} is given twice.")
        fields[name] = value
    return fields


def _json_fields(body: bytes) -> dict[str, str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedTokenRequestError("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise MalformedTokenRequestError("The body must be a JSON object.")
    known = ("grant_type", "client_id", "client_secret", "install_id", "refresh_token")
    return {name: _as_text(name, document[name]) for name in known if document.get(name) is not None}


def _as_text(name: str, value: object) -> str:
    """Ids are numbers in some clients and strings in others."""
    if isinstance(value, str) and _is_unicode(value):
        return value
    if name == "install_id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise MalformedTokenRequestError(f"{name} is of the wrong type.")


def _is_unicode(text: str) -> bool:
    """JSON can spell half a surrogate pair, which no encoding can carry on."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _required(fields: dict[str, str], name: str) -> str:
    if not fields.get(name):
        raise MalformedTokenRequestError(f"{name} is missing.")
    return fields[name]


def _credentials(headers: Headers, client_id: str | None, client_secret: Secret | None) -> Credentials:
    """The SDK's client_credentials request has them in both places; they must then agree."""
    in_body = client_id is not None or client_secret is not None
    header = headers.get("authorization")
    if header is None:
        return Credentials(client_id, client_secret, "body" if in_body else "none")
    basic_id, basic_secret = _basic(header)
    if not in_body:
        return Credentials(basic_id, basic_secret, "basic")
    agree = client_id in {None, basic_id} and client_secret in {None, basic_secret}
    return Credentials(basic_id if agree else None, basic_secret if agree else None, "both")


def _basic(header: str) -> tuple[str | None, Secret | None]:
    """Plain ``id:secret`` in Base64, as the SDK's HTTP client sends it, without RFC 6749's percent-encoding."""
    scheme, _, encoded = header.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # not Base64, not UTF-8, not even ASCII
        return None, None
    return (client_id, Secret(secret)) if scheme.lower() == "basic" and colon else (None, None)


def _shown(name: str) -> str:
    return name if name.isidentifier() else "A parameter"
