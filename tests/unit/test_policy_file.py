"""PolicyFile: a change takes effect while the broker runs, and a broken one changes nothing."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from broker.adapters.policy.policy import Policy
from broker.adapters.policy.policy_file import INTERVAL, PolicyFile
from broker.adapters.policy.reading import PolicyBroken, read_policy
from broker.domain.callers import Caller, KnownBy, Operation, Subject
from tests.eventually import eventually
from tests.fakes.clock import FakeClock

TEAM: Final = 'permit (principal in Group::"team", action, resource);\n'
NOBODY: Final = "forbid (principal, action, resource);\n"
BROKEN: Final = 'permit (principal, action == Action::"GetTokn", resource);\n'
READ_POLICY: Final = "broker.adapters.policy.policy_file.read_policy"
CALLER: Final = Caller("billing", KnownBy.CERTIFICATE)


class Files:
    """A policy that gives `billing` what it asks for, as a member of a group."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "policy.cedar"
        self.groups = folder / "groups.json"
        self.policy.write_text(TEAM, encoding="utf-8")
        self.groups.write_text('{"team": ["billing"]}', encoding="utf-8")
        self.clock = FakeClock()
        self.watched = PolicyFile(self.policy, self.groups, clock=self.clock)

    def allows(self) -> bool:
        """What is in force."""
        return self.watched.authorizer.allows(CALLER, Operation.GET_TOKEN, Subject("4242", "1000000"))

    async def looks(self) -> list[Any]:
        """Enough looks to see a change that stands still; what was logged."""
        with capture_logs() as logs:
            await self.watched.look()
            await self.watched.look()
        return [line["event"] for line in logs]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The files, read once."""
    return Files(tmp_path)


async def test_changed_policy_takes_effect_and_has_another_version(files: Files) -> None:
    """Without a restart; by the version whoever remembers decisions forgets them."""
    version = files.watched.authorizer.version
    assert files.allows()
    files.policy.write_text(NOBODY, encoding="utf-8")
    assert await files.looks() == ["policy.loaded"]
    assert not files.allows()
    assert files.watched.authorizer.version != version


async def test_changed_groups_take_effect(files: Files) -> None:
    """Who leaves the team leaves its tokens."""
    files.groups.write_text('{"team": []}', encoding="utf-8")
    assert await files.looks() == ["policy.loaded"]
    assert not files.allows()


async def test_unchanged_files_are_not_read_again(files: Files) -> None:
    """A look costs two stats a second."""
    assert await files.looks() == []


async def test_change_that_does_not_stand_still_is_left_for_the_next_look(files: Files) -> None:
    """A file that is being written may lack its last `forbid`."""
    await files.watched.look()
    files.policy.write_text(TEAM + NOBODY, encoding="utf-8")
    await files.watched.look()
    assert files.allows()
    await files.watched.look()
    assert not files.allows()


async def test_file_that_changes_while_it_is_read_is_left_for_the_next_look(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read may be half of each."""

    def changed_meanwhile(*paths: Path) -> Policy:
        found = read_policy(*paths)
        files.policy.write_text(TEAM + "\n", encoding="utf-8")
        return found

    files.policy.write_text(NOBODY, encoding="utf-8")
    monkeypatch.setattr(READ_POLICY, changed_meanwhile)
    assert await files.looks() == []
    assert files.allows()
    monkeypatch.undo()
    assert await files.looks() == ["policy.loaded"]
    assert files.allows()


@pytest.mark.parametrize("content", [BROKEN, "", None], ids=["typo", "empty", "missing"])
async def test_broken_new_file_keeps_the_old_policy_and_says_so_once(
    files: Files, content: str | None
) -> None:
    """P6: neither open to all nor closed to all by somebody's typo."""
    version = files.watched.authorizer.version
    if content is None:
        files.policy.unlink()
    else:
        files.policy.write_text(content, encoding="utf-8")
    assert await files.looks() + await files.looks() == ["policy.broken"]
    assert files.allows()
    assert files.watched.authorizer.version == version
    assert files.watched.problem is not None
    assert files.watched.problem.startswith(
        "the policy file is broken; the old one is in force: the policy file"
    )


async def test_each_broken_change_is_told_with_its_reason(files: Files) -> None:
    """An operator who mends one typo and makes another must not wait for news."""
    with capture_logs() as logs:
        for content in (BROKEN, "permit everything;"):
            files.policy.write_text(content, encoding="utf-8")
            await files.watched.look()
            await files.watched.look()
    assert [(line["event"], line["log_level"]) for line in logs] == [("policy.broken", "error")] * 2
    assert "GetTokn" in logs[0]["reason"]
    assert "line 1: unexpected token `everything`" in logs[1]["reason"]


async def test_mended_file_is_no_problem_any_more(files: Files) -> None:
    """Even if it is the old one again, byte for byte."""
    version = files.watched.authorizer.version
    files.policy.write_text(BROKEN, encoding="utf-8")
    await files.looks()
    files.policy.write_text(TEAM, encoding="utf-8")
    assert await files.looks() == ["policy.loaded"]
    assert files.watched.problem is None
    assert files.watched.authorizer.version == version


async def test_swapped_link_takes_effect(tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap: the files are links through a link to a folder, which alone is replaced."""
    for name, policy in (("..one", TEAM), ("..two", NOBODY)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.cedar").write_text(policy, encoding="utf-8")
        (tmp_path / name / "groups.json").write_text('{"team": ["billing"]}', encoding="utf-8")
    (tmp_path / "..data").symlink_to("..one")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in ("policy.cedar", "groups.json"):
        (mounted / name).symlink_to(Path("..", "..data", name))
    watched = PolicyFile(mounted / "policy.cedar", mounted / "groups.json", clock=FakeClock())
    assert watched.authorizer.allows(CALLER, Operation.GET_TOKEN, Subject("4242", "1"))
    (tmp_path / "..data_tmp").symlink_to("..two")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await watched.look()
    await watched.look()
    assert not watched.authorizer.allows(CALLER, Operation.GET_TOKEN, Subject("4242", "1"))


async def test_watch_looks_each_second_until_it_is_cancelled(files: Files) -> None:
    """It is a task of the broker's."""
    watching = asyncio.create_task(files.watched.watch())
    files.policy.write_text(NOBODY, encoding="utf-8")

    async def refused() -> bool:
        assert await files.clock.parked() == INTERVAL
        files.clock.advance(INTERVAL)
        return not files.allows()

    await eventually(refused)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_error_that_nobody_foresaw_keeps_the_old_policy_and_the_watch(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the policy would be for ever what it was when the task died."""

    def fails(*_paths: Path) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(READ_POLICY, fails)
    files.policy.write_text(NOBODY, encoding="utf-8")
    assert await files.looks() == ["policy.reading_failed", "policy.broken"]
    assert files.allows()
    monkeypatch.undo()
    files.policy.write_text(NOBODY + NOBODY, encoding="utf-8")
    assert await files.looks() == ["policy.loaded"]


@pytest.mark.parametrize(
    ("content", "reason"), [(BROKEN, "line 1: unrecognized action"), (None, "can't be read: No such file")]
)
def test_broker_does_not_start_without_a_policy(tmp_path: Path, content: str | None, reason: str) -> None:
    """There is no old one to keep."""
    path = tmp_path / "policy.cedar"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(PolicyBroken, match=reason):
        PolicyFile(path, clock=FakeClock())
