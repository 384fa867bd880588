"""What is said to the broker, and how its answers are read."""

from typing import Final

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tokenbroker.client.statuses import seconds_of
from tokenbroker.client.token import Seconds, Token
from tokenbroker.v1.token_broker_pb2 import (
    GetTokenRequest,
    GetTokenResponse,
    ReportRejectedTokenRequest,
    WatchTokensRequest,
    WatchTokensSubscribe,
    WatchTokensUnsubscribe,
)

Metadata = tuple[tuple[str, str], ...]
AUTHORIZATION: Final = "authorization"
# traceparent and tracestate alone: a caller's baggage is not for the broker.
_TRACE: Final = TraceContextTextMapPropagator()


class Wire:
    """Requests of one app, as gRPC's messages."""

    def __init__(self, plugin_id: str) -> None:
        self._plugin_id = plugin_id

    def get_token(self, install: str) -> GetTokenRequest:
        """Asks for a token."""
        return GetTokenRequest(plugin_id=self._plugin_id, install_id=install)

    def report(self, token: Token) -> ReportRejectedTokenRequest:
        """Reports a token by its generation."""
        return ReportRejectedTokenRequest(
            plugin_id=self._plugin_id, install_id=token.install_id, generation=token.generation
        )

    def subscribe(self, install: str, generation: int) -> WatchTokensRequest:
        """Begins to watch an install."""
        change = WatchTokensSubscribe(
            plugin_id=self._plugin_id, install_id=install, known_generation=generation
        )
        return WatchTokensRequest(subscribe=change)

    def unsubscribe(self, install: str) -> WatchTokensRequest:
        """Watches it no more."""
        change = WatchTokensUnsubscribe(plugin_id=self._plugin_id, install_id=install)
        return WatchTokensRequest(unsubscribe=change)

    @staticmethod
    def token_of(answer: GetTokenResponse, install: str, now: Seconds) -> Token:
        """A token whose answer has just come."""
        return Token(
            answer.access_token,
            token_type=answer.token_type,
            generation=answer.generation,
            install_id=install,
            company_id=answer.company_id,
            usable_until=now + seconds_of(answer.expires_in),
        )


def trace() -> Metadata:
    """The trace of whoever begins a call."""
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier)
    return tuple(carrier.items())


def identity(bearer: str | None) -> Metadata:
    """The proof that travels with each call, if there is one. For a channel by TLS alone."""
    return () if bearer is None else ((AUTHORIZATION, f"Bearer {bearer}"),)
