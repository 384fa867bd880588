"""ListInstalls: pages of installs by key, after AIP-158."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker.domain.errors import InvalidField
from broker.domain.identifiers import InstallKey, checked_id
from broker.domain.installs import Install, InstallFilter
from broker.ports import InstallStore
from broker.service.calls import Call

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
_FINGERPRINT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class InstallPage:
    """A page; `next_page_token` is "" after the last."""

    installs: Sequence[Install]
    next_page_token: str


class ListInstalls:
    """The use case."""

    def __init__(self, store: InstallStore) -> None:
        self._store = store

    async def __call__(
        self, call: Call, install_filter: InstallFilter, page_size: int, page_token: str
    ) -> InstallPage:
        """The page behind `page_token`, without what the caller may not see: it may be short, or even empty (AIP-158).

        Raises:
            InvalidField: an id is no id, `page_size` is negative, or `page_token` is not one of ours or
                belongs to other filters.
            StoreUnavailable.
        """
        for field in ("plugin_id", "company_id"):
            value = getattr(install_filter, field)
            if value is not None:
                checked_id(value, field)
        if page_size < 0:
            raise InvalidField("page_size", "must not be negative")
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        after = _parse(page_token, install_filter) if page_token else None
        installs = await self._store.page(install_filter, after=after, limit=size + 1)
        token = _format(installs[size - 1].key, install_filter) if len(installs) > size else ""
        return InstallPage([install for install in installs[:size] if call.may_see(install)], token)


def _format(last: InstallKey, install_filter: InstallFilter) -> str:
    return base64.urlsafe_b64encode(json.dumps([*last, _fingerprint(install_filter)]).encode()).decode()


def _parse(page_token: str, install_filter: InstallFilter) -> InstallKey:
    try:
        decoded = json.loads(base64.b64decode(page_token.encode(), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        decoded = None
    match decoded:
        case [str(plugin_id), str(install_id), str(fingerprint)]:
            if fingerprint != _fingerprint(install_filter):
                raise InvalidField("page_token", "belongs to a list with other filters")
            return InstallKey(checked_id(plugin_id, "page_token"), checked_id(install_id, "page_token"))
    raise InvalidField("page_token", "is not one that this broker gave")


def _fingerprint(install_filter: InstallFilter) -> str:
    parts = [install_filter.plugin_id, install_filter.company_id, install_filter.state]
    if install_filter.failing:
        parts.append("failing")  # Without it, tokens are those of the releases that did not know it.
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=_FINGERPRINT_BYTES).hexdigest()
