"""All that outsiders were answered, kept as bytes."""

from collections.abc import Awaitable
from dataclasses import dataclass, field

import grpc.aio
import httpx
from google.protobuf.message import Message

from tests.integration.refusals import DETAILS_KEY


@dataclass
class Answers:
    """What was answered, by what it may hold.

    Attributes:
        with_tokens: replies whose business is an access token.
        replies: the other replies of gRPC.
        refusals: errors of gRPC, all of each.
        confirmations: to Envoy's webhooks that were accepted, whose payload they repeat.
        http: all other answers of HTTP.
        codes: of the refusals.
    """

    with_tokens: list[bytes] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    refusals: list[bytes] = field(default_factory=list)
    confirmations: list[bytes] = field(default_factory=list)
    http: list[bytes] = field(default_factory=list)
    codes: set[grpc.StatusCode] = field(default_factory=set)

    async def call(self, call: Awaitable[Message | bytes], *, for_a_token: bool = False) -> None:
        """Keep what a call is answered, be it a reply or an error."""
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            self.codes.add(error.code())
            self.refusals.append(_all_of(error))
            return
        written = reply if isinstance(reply, bytes) else reply.SerializeToString()
        (self.with_tokens if for_a_token else self.replies).append(written)

    def heard(self, answer: httpx.Response) -> None:
        """Keep an answer of HTTP."""
        head = f"{answer.status_code} {answer.reason_phrase} {answer.headers!r}".encode()
        self.http.append(head + answer.content)


def _all_of(error: grpc.aio.AioRpcError) -> bytes:
    """Text, trailers, and the details' bytes."""
    trailers = dict(error.trailing_metadata() or ())
    details = trailers.get(DETAILS_KEY, b"")
    told = (
        f"{error.code()} {error.details()} {error.debug_error_string()} {trailers} {error.initial_metadata()}"
    )
    return told.encode() + (details if isinstance(details, bytes) else details.encode())
