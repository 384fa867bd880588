"""Valid access tokens of Envoy's, mostly out of memory: `Client` for threads, `AsyncClient` for tasks.

Adapters that put them on requests: `tokenbroker.client.httpx`, `tokenbroker.client.requests`.
"""

from tokenbroker.client.async_client import AsyncClient
from tokenbroker.client.client import Client
from tokenbroker.client.credentials import Credentials
from tokenbroker.client.errors import (
    BrokerUnreachable,
    CallerNotAllowed,
    DeadlineExceeded,
    InstallNotFound,
    ProviderUnavailable,
    Reason,
    ReauthorizationRequired,
    TokenBrokerError,
)
from tokenbroker.client.token import Token

__all__ = [
    "AsyncClient",
    "BrokerUnreachable",
    "CallerNotAllowed",
    "Client",
    "Credentials",
    "DeadlineExceeded",
    "InstallNotFound",
    "ProviderUnavailable",
    "Reason",
    "ReauthorizationRequired",
    "Token",
    "TokenBrokerError",
]
