"""What to send in place of a token that Envoy answered 401 to."""

from tokenbroker.client.async_client import AsyncClient
from tokenbroker.client.client import Client
from tokenbroker.client.errors import TokenBrokerError
from tokenbroker.client.token import Token


def replacement(client: Client, token: Token) -> Token | None:
    """A token of a newer generation. None: there is no such, or nobody can tell; then the 401 is the answer."""
    try:
        client.reject(token)
        return _if_newer(token, client.token(token.install_id))
    except TokenBrokerError:
        return None


async def async_replacement(client: AsyncClient, token: Token) -> Token | None:
    """The same for tasks."""
    try:
        await client.reject(token)
        return _if_newer(token, await client.token(token.install_id))
    except TokenBrokerError:
        return None


def _if_newer(token: Token, newest: Token) -> Token | None:
    return newest if newest.generation > token.generation else None
