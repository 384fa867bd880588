"""The quick start of docs/secure.md: its own commands, from certificates to a first authorised call."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.sandboxes import Sandbox, sandbox
from tests.eventually import eventually
from tests.processes import TOKEN_BROKER, Finished, run

DOCUMENT: Final = Path(__file__).parents[2] / "docs/secure.md"
FOLDER: Final = "build/secure"
COMMAND: Final = ".venv/bin/token-broker"
_TOKEN_GET: Final = re.compile(r"^\$ \S+/token-broker (token get .*)$", re.MULTILINE)
_POLICY: Final = re.compile(r"```cedar\n(.*?)```", re.DOTALL)
_EXPORT: Final = re.compile(r"^export (\w+)=(\S+)$", re.MULTILINE)
_VERIFY: Final = re.compile(
    r'^\S+/token-broker audit verify (\S+) --public-key "\$\(\S+ (.*)\)"$', re.MULTILINE
)
_WHO_CAN: Final = re.compile(r"`\S+/token-broker (policy who-can .*?)`", re.DOTALL)


class QuickStart:
    """The document's commands, against a sandbox at other ports and in another folder."""

    def __init__(self, broker: Sandbox, folder: Path) -> None:
        self._folder = folder
        self._text = DOCUMENT.read_text(encoding="utf-8").replace(FOLDER, str(folder))
        self._variables = {"TOKEN_BROKER_ADDRESS": broker.grpc, **dict(_EXPORT.findall(self._text))}

    @property
    def calls(self) -> list[str]:
        """Each `token get` in turn."""
        return _TOKEN_GET.findall(self._text)

    async def run(self, arguments: str) -> Finished:
        """One command."""
        mine = {name: value for name, value in self._variables.items() if not name.endswith("_DATABASE_URL")}
        return await run(TOKEN_BROKER, *arguments.split(), env=mine)

    def add_the_policy(self) -> None:
        """What the document says to add."""
        found = _POLICY.search(self._text)
        assert found is not None
        with (self._folder / "policy.cedar").open("a") as policy:
            policy.write(found[1])

    async def who_can(self) -> str:
        """The document's question."""
        found = _WHO_CAN.search(self._text)
        assert found is not None
        return (await self.run(found[1])).out

    async def verify(self) -> Finished:
        """The document's last step."""
        found = _VERIFY.search(self._text)
        assert found is not None
        public_key = (await self.run(found[2])).out.strip()
        return await self.run(f"audit verify {found[1]} --public-key {public_key}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the document calls build/secure."""
    return tmp_path / "secure"


async def test_newcomer_gets_from_certificates_to_a_first_authorised_call(
    temporary: Path, folder: Path
) -> None:
    """A quick start that does not work is worse than none."""
    async with sandbox(temporary, "--secure", str(folder)) as broker:
        start = QuickStart(broker, folder)
        service, stranger, stranger_for_unknown = start.calls
        assert (await start.run(service)).out.startswith("simulated-at-")
        refused, unknown = await start.run(stranger), await start.run(stranger_for_unknown)
        assert (refused.code, refused.out) == (unknown.code, unknown.out) == (1, "")
        assert refused.err == unknown.err
        assert refused.err.strip() in DOCUMENT.read_text(encoding="utf-8")
        assert "stranger" not in await start.who_can()
        start.add_the_policy()
        assert "stranger" in await start.who_can()

        async def stranger_gets_it() -> bool:
            return (await start.run(stranger)).out.startswith("simulated-at-")

        await eventually(stranger_gets_it)
        verified = await start.verify()
        assert (verified.code, "all is well" in verified.out) == (0, True), verified.err
