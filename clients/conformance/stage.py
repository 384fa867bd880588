"""The stage of one scenario: its gates and files, the client that is opened, and what its steps leave for each other."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from clients.conformance.adapter import Adapter, Answer, Pending
from clients.conformance.certificates import ANOTHER, FILES, CredentialFiles
from clients.conformance.expectations import UnmetError
from clients.conformance.gate import Gate
from clients.conformance.orders import Orders
from clients.conformance.table import Scenario
from clients.conformance.world import World

CLIENT: Final = "main"
SOON_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.02
# How long something is watched that should not happen.
A_WHILE_SECONDS: Final = 0.15


class Stage:
    """Attributes: ids: the scenario's installs. pending: who waits, by name. tokens: the newest of each install."""

    def __init__(self, scenario: Scenario, adapter: Adapter, world: World) -> None:
        self.scenario = scenario
        self.adapter = adapter
        self.world = world
        self.orders = Orders()
        self.gates: list[Gate] = []
        self.ids = {name: world.new_id() for name in (*scenario.installs, "unknown")}
        self.pending: dict[str, list[Pending]] = {}
        self.tokens: dict[str, str] = {}
        self.files: CredentialFiles | None = None

    async def set(self, stack: AsyncExitStack) -> None:
        """Open everything, until the end of `stack`."""
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if self.scenario.tls != "none":
            self.files = CredentialFiles(Path(folder))
            self.files.write_certificate("first")
            self.files.write("token_file", "first")
            self.files.write_authority(is_own=self.scenario.options.get("ca_file") != ANOTHER)
        self.world.api.orders = self.orders
        await self._open_gates(stack)
        await asyncio.gather(*(self.world.install(self.ids[name]) for name in self.scenario.installs))
        for install_id in self.ids.values():
            stack.push_async_callback(self.world.heal_envoy, install_id)
        await self._open_client(stack)
        stack.callback(self.orders.release_all)

    async def answer(self, pending: Pending) -> Answer:
        """The adapter's.

        Raises:
            TimeoutError.
        """
        return await pending.answer(SOON_SECONDS)

    async def _open_gates(self, stack: AsyncExitStack) -> None:
        for _ in range(self.scenario.gates):
            credentials = None
            if self.files is not None:
                credentials = self.files.server(mutual=self.scenario.tls == "mutual")
            gate = Gate(self.world.broker, self.orders, credentials)
            await gate.start()
            stack.push_async_callback(gate.close)
            self.gates.append(gate)

    async def _open_client(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._close_client)
        addresses = [gate.address for gate in self.gates]
        options = dict(self.scenario.options)
        for option in FILES:
            if self.files is not None and options.get(option) in {True, ANOTHER}:
                options[option] = str(self.files.folder / FILES[option])
        options.setdefault("insecure", True if self.scenario.tls == "none" else None)
        target = addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"
        answer = await self.answer(self.adapter.send("open", client=CLIENT, target=target, **options))
        expected = {} if self.scenario.opens else {"error": {"reason": "CONFIGURATION"}}
        if answer != expected:
            raise UnmetError(f"open: expected {expected}, got {answer}")

    async def _close_client(self) -> None:
        if self.scenario.opens:
            await self.answer(self.adapter.send("close", client=CLIENT))

    async def soon(
        self, look: Callable[[], Mapping[str, int]], expected: Mapping[str, int], *, at_least: bool = False
    ) -> None:
        """Return when what is looked at is as expected.

        Raises:
            UnmetError: it does not become so.
        """

        def is_met() -> bool:
            found = look()
            pairs = [(found.get(key, 0), number) for key, number in expected.items()]
            return all(have >= want if at_least else have == want for have, want in pairs)

        try:
            async with asyncio.timeout(SOON_SECONDS):
                while not is_met():
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise UnmetError(f"expected {dict(expected)}, saw {dict(look())}") from None
