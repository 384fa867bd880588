"""The use cases as a caller meets them: of somebody who may do everything, unless a test names another."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from broker.domain.callers import Caller, KnownBy, Operation
from broker.domain.errors import BrokerError
from broker.domain.history import AttemptRecord
from broker.domain.installs import Install, InstallFilter
from broker.service.batch_get_tokens import Wanted
from broker.service.calls import Call
from broker.service.get_token import NO_TIME
from broker.service.list_installs import InstallPage
from broker.service.report_rejected_token import Report
from broker.service.token_cache import Entry
from broker.service.use_cases import UseCases

SOMEBODY: Final = Caller("somebody", KnownBy.CERTIFICATE)


class InstallsOfACaller:
    """GetInstall, RefreshInstall, DeleteInstall."""

    def __init__(self, use_cases: UseCases, caller: Caller) -> None:
        self._use_cases = use_cases
        self._caller = caller

    async def get(self, plugin_id: str, install_id: str) -> Install:
        """GetInstall."""
        return await self._use_cases.installs.get(self._call(Operation.GET_INSTALL), plugin_id, install_id)

    async def refresh(self, plugin_id: str, install_id: str) -> Install:
        """RefreshInstall."""
        call = self._call(Operation.REFRESH_INSTALL)
        return await self._use_cases.installs.refresh(call, plugin_id, install_id)

    async def history(self, install: Install) -> Sequence[AttemptRecord]:
        """What GetInstall and RefreshInstall tell besides."""
        return await self._use_cases.installs.history(install)

    async def delete(self, plugin_id: str, install_id: str) -> Install:
        """DeleteInstall."""
        return await self._use_cases.installs.delete(
            self._call(Operation.DELETE_INSTALL), plugin_id, install_id
        )

    def _call(self, operation: Operation) -> Call:
        return self._use_cases.guard.begin(self._caller, operation)


class UseCasesOfACaller:
    """Attributes: installs: the operators' use cases for one install."""

    def __init__(self, use_cases: UseCases, caller: Caller = SOMEBODY) -> None:
        self._use_cases = use_cases
        self._caller = caller
        self.installs = InstallsOfACaller(use_cases, caller)

    async def get_token(self, plugin_id: str, install_id: str, min_ttl: timedelta = NO_TIME) -> Entry:
        """GetToken."""
        call = self._call(Operation.GET_TOKEN)
        return await self._use_cases.get_token(call, plugin_id, install_id, min_ttl)

    async def batch_get_tokens(self, wanted: Sequence[Wanted]) -> list[Entry | BrokerError]:
        """BatchGetTokens."""
        return await self._use_cases.batch_get_tokens(self._call(Operation.GET_TOKEN), wanted)

    async def report_rejected_token(self, plugin_id: str, install_id: str, generation: int) -> Report:
        """ReportRejectedToken."""
        call = self._call(Operation.REPORT_REJECTED_TOKEN)
        return await self._use_cases.report_rejected_token(call, plugin_id, install_id, generation)

    async def list_installs(
        self, install_filter: InstallFilter, page_size: int, page_token: str
    ) -> InstallPage:
        """ListInstalls."""
        call = self._call(Operation.LIST_INSTALLS)
        return await self._use_cases.list_installs(call, install_filter, page_size, page_token)

    def _call(self, operation: Operation) -> Call:
        return self._use_cases.guard.begin(self._caller, operation)
