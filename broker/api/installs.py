"""The servicer of tokenbroker.v1.Installs."""

from broker.api.messages import STATES, attempt_message, install_message
from broker.domain.errors import InvalidField
from broker.domain.installs import Install, InstallFilter
from broker.domain.states import InstallState
from broker.ports import Clock
from broker.service.calls import Call
from broker.service.installs import Installs
from broker.service.list_installs import ListInstalls
from tokenbroker.v1 import installs_pb2 as pb

_STATES_BY_NUMBER = {int(number): state for state, number in STATES.items()}


class InstallsServicer:
    """Each method takes a request and returns a reply; errors are the domain's."""

    def __init__(self, *, installs: Installs, list_installs: ListInstalls, clock: Clock) -> None:
        self._installs = installs
        self._list_installs = list_installs
        self._clock = clock

    async def GetInstall(self, request: pb.GetInstallRequest, call: Call) -> pb.GetInstallResponse:
        """See the proto."""
        install = await self._installs.get(call, request.plugin_id, request.install_id)
        return pb.GetInstallResponse(install=await self._whole(install))

    async def ListInstalls(self, request: pb.ListInstallsRequest, call: Call) -> pb.ListInstallsResponse:
        """See the proto."""
        install_filter = InstallFilter(
            plugin_id=request.plugin_id or None,
            company_id=request.company_id or None,
            state=_state(request.state),
            failing=request.failing,
        )
        page = await self._list_installs(call, install_filter, request.page_size, request.page_token)
        messages = [self._message(install) for install in page.installs]
        return pb.ListInstallsResponse(installs=messages, next_page_token=page.next_page_token)

    async def RefreshInstall(
        self, request: pb.RefreshInstallRequest, call: Call
    ) -> pb.RefreshInstallResponse:
        """See the proto."""
        install = await self._installs.refresh(call, request.plugin_id, request.install_id)
        return pb.RefreshInstallResponse(install=await self._whole(install))

    async def DeleteInstall(self, request: pb.DeleteInstallRequest, call: Call) -> pb.DeleteInstallResponse:
        """See the proto."""
        install = await self._installs.delete(call, request.plugin_id, request.install_id)
        return pb.DeleteInstallResponse(install=self._message(install))

    async def _whole(self, install: Install) -> pb.Install:
        """The install with its history."""
        message = self._message(install)
        message.recent_attempts.extend(map(attempt_message, await self._installs.history(install)))
        return message

    def _message(self, install: Install) -> pb.Install:
        return install_message(install, self._clock.now())


def _state(number: int) -> InstallState | None:
    if number == pb.INSTALL_STATE_UNSPECIFIED:
        return None
    state = _STATES_BY_NUMBER.get(number)
    if state is None:
        raise InvalidField("state", "is no state that this release knows")
    return state
