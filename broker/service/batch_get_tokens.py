"""BatchGetTokens: GetToken for many installs, each with its own result."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from broker.domain.errors import AuditUnavailable, BrokerError, InvalidField
from broker.service.calls import Call
from broker.service.get_token import GetToken
from broker.service.token_cache import Entry

MAX_REQUESTS: Final = 1000
# One batch must not take every place from single calls.
AT_ONCE: Final = 64


class Wanted(NamedTuple):
    """One request of a batch, as GetToken takes it."""

    plugin_id: str
    install_id: str
    min_ttl: timedelta


class BatchGetTokens:
    """The use case."""

    def __init__(self, get_token: GetToken) -> None:
        self._get_token = get_token

    async def __call__(self, call: Call, requests: Sequence[Wanted]) -> list[Entry | BrokerError]:
        """A result for each request, in the same order.

        Raises:
            InvalidField: there are none, or too many.
        """
        if not requests:
            raise InvalidField("requests", "must not be empty")
        if len(requests) > MAX_REQUESTS:
            raise InvalidField("requests", f"must be at most {MAX_REQUESTS}")
        room = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(self._one(call.part(), wanted, room) for wanted in requests))

    async def _one(self, call: Call, wanted: Wanted, room: asyncio.Semaphore) -> Entry | BrokerError:
        async with room:
            try:
                return await self._get_token(call, *wanted)
            except BrokerError as error:
                try:
                    await call.end(error)
                except AuditUnavailable as unavailable:
                    return unavailable
                return error
