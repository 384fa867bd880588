"""Turns a decision and a behaviour into what goes over the wire, broken where the behaviour says so."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.sandbox.simulated_envoy.behaviour import Behaviour
from broker.sandbox.simulated_envoy.server import transport_of
from broker.sandbox.simulated_envoy.tokens import TokenPair

TOKEN_PATHS = ("/oauth2/token", "/a/auth/v0/token")

# RFC 6749 section 5.1: an answer with tokens must not be cached.
_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_MEDIA_TYPE = "application/json; charset=utf-8"
_NOT_JSON = b"<!doctype html><title>Envoy</title><h1>Something went wrong</h1>"
_NESTING_LEVELS = 100_000
_CHUNK = b" " * 65_536
_BYTES_PER_MEBIBYTE = 1_048_576


@dataclass(frozen=True)
class Refusal:
    """RFC 6749 section 5.2: an error of the token endpoint."""

    error: str
    description: str
    status: int = 400


@dataclass(frozen=True)
class Answer:
    """What is sent, and what the ledger says of it."""

    app: ASGIApp = field(repr=False)
    name: str
    outcome_known: bool


def answer_for(behaviour: Behaviour, decision: TokenPair | Refusal | None, path: str) -> Answer:
    """The answer. ``decision`` is None where the request was not processed (yet)."""
    if behaviour.cut in {"before_processing", "after_processing"}:
        return Answer(DroppedAnswer(), "cut", outcome_known=False)
    if behaviour.status is not None:
        unprocessed = not behaviour.status_after_processing and behaviour.process_after_seconds is None
        known = unprocessed and behaviour.status < HTTPStatus.INTERNAL_SERVER_ERROR
        return Answer(
            _status_answer(behaviour, behaviour.status, path),
            f"status_{behaviour.status}",
            outcome_known=known,
        )
    if isinstance(decision, Refusal):
        return Answer(refusal_answer(decision), "documented", outcome_known=True)
    if decision is None:
        return Answer(DroppedAnswer(), "cut", outcome_known=False)
    return _pair_answer(behaviour, decision)


def refusal_answer(refusal: Refusal) -> Response:
    """An OAuth error as JSON."""
    body = {"error": refusal.error, "error_description": refusal.description}
    challenge = {"WWW-Authenticate": 'Basic realm="Envoy"'} if refusal.error == "invalid_client" else {}
    return _json_answer(json.dumps(body).encode(), refusal.status, challenge)


class DroppedAnswer:
    """Drops the connection, after part of an answer if there is one."""

    def __init__(self, part: bytes = b"", announced_bytes: int = 0) -> None:
        self._part = part
        self._announced_bytes = announced_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Closes the transport; where the server hides it, begins an answer and leaves it unfinished."""
        transport = transport_of(scope)
        if self._part or transport is None:
            length = str(max(self._announced_bytes, 1)).encode()
            headers = [(b"content-type", _MEDIA_TYPE.encode()), (b"content-length", length)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self._part, "more_body": True})
        if transport is not None:
            transport.close()
            await receive()  # the request was read to its end, so this is the disconnect


def _pair_answer(behaviour: Behaviour, pair: TokenPair) -> Answer:
    fields = {
        name: value
        for name, value in (pair.document() | behaviour.overrides).items()
        if name not in behaviour.omit
    }
    body = json.dumps(fields).encode()
    if behaviour.cut == "mid_answer":
        return Answer(DroppedAnswer(body[: len(body) // 2], len(body)), "cut", outcome_known=False)
    if behaviour.body != "documented":
        return Answer(_broken_answer(behaviour, body), behaviour.body, outcome_known=False)
    arrived = fields.get("access_token") == pair.access_token
    name = "documented" if fields == pair.document() else "altered"
    return Answer(_json_answer(body), name, outcome_known=arrived)


def _broken_answer(behaviour: Behaviour, body: bytes) -> Response:
    match behaviour.body:
        case "truncated":
            return _json_answer(body[: len(body) // 2])
        case "not_json":
            return _json_answer(_NOT_JSON)
        case "deeply_nested":
            return _json_answer(
                b'{"nested":' + b"[" * _NESTING_LEVELS + b"]" * _NESTING_LEVELS + b"," + body[1:]
            )
        case "duplicate_keys":
            return _json_answer(b'{"access_token":"simulated-at-not-this-one",' + body[1:])
        case _:
            chunks = _padded(body, behaviour.huge_mebibytes)
            return StreamingResponse(chunks, headers=_HEADERS, media_type=_MEDIA_TYPE)


async def _padded(body: bytes, mebibytes: int) -> AsyncIterator[bytes]:
    """Valid JSON behind much white space: only a bound on the size protects its reader."""
    for _ in range(mebibytes * _BYTES_PER_MEBIBYTE // len(_CHUNK)):
        yield _CHUNK
    yield body


def _status_answer(behaviour: Behaviour, status: int, path: str) -> Response:
    headers = {}
    if behaviour.retry_after_seconds is not None:
        headers["Retry-After"] = str(behaviour.retry_after_seconds)
    if status < HTTPStatus.BAD_REQUEST:
        headers["Location"] = TOKEN_PATHS[0] if path == TOKEN_PATHS[1] else TOKEN_PATHS[1]
    body: dict[str, Any] = {"error": f"simulated_{status}", "error_description": "As the behaviour says."}
    return _json_answer(json.dumps(body).encode(), status, headers)


def _json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, {**_HEADERS, **(headers or {})}, media_type=_MEDIA_TYPE)
