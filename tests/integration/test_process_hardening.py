"""A serving process is closed to the other processes of its user, and leaves no core dump: on Linux, of real processes."""

import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from broker.sandbox.embedded_postgres.account import UNPRIVILEGED
from tests.integration import onlooker
from tests.integration.served_broker import settings_for
from tests.processes import TOKEN_BROKER, Running, environment, run, running
from tests.toolchains import requires_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked for it")

ROOT: Final = 0
NOWHERE: Final = "http://127.0.0.1:1"
NO_DATABASE: Final = "postgresql://nobody@127.0.0.1:1/nothing"
SERVE: Final = (TOKEN_BROKER, "serve")
# Another program of the same user, as open as programs are.
BYSTANDER: Final = (sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()")
WITH_CORES: Final = ("/bin/sh", "-c", 'ulimit -c unlimited; exec "$0" "$@"')
# Else a run that measures coverage would write where this user may not.
WITHOUT_SITE: Final = "-S"
UNLIMITED: Final = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
# Root's tests may run from a folder that only root may enter: this right lets another user in, and gives no other.
READS_ALL: Final = "-all,+dac_read_search"


def one_user() -> tuple[str | Path, ...]:
    """What to put before a command so that it runs as an ordinary user, with the rights of all others put so."""
    if os.geteuid() != ROOT:
        return ()
    user = pwd.getpwnam(UNPRIVILEGED)
    return (
        requires_program("setpriv"),
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--inh-caps={READS_ALL}",
        f"--ambient-caps={READS_ALL}",
    )


async def ways_into(process: Running) -> list[str]:
    """The ways into the process that its own user has."""
    looked = await run(*one_user(), sys.executable, WITHOUT_SITE, onlooker.__file__, str(process.pid))
    assert (looked.code, looked.err) == (0, "")
    return looked.out.split()


async def test_other_processes_of_the_brokers_user_can_not_look_into_it(database: str) -> None:
    """Not at its environment, not at its memory, not as a debugger; and the broker itself misses nothing."""
    async with running(*one_user(), *BYSTANDER) as bystander:
        await bystander.out.line("up")
        open_elsewhere = await ways_into(bystander)
    async with running(*one_user(), *SERVE, env=settings_for(database, NOWHERE)) as broker:
        await broker.err.line("broker.ready")
        assert await ways_into(broker) == []
    assert onlooker.ENVIRONMENT in open_elsewhere


async def test_root_can_look_into_it_all_the_same() -> None:
    """What docs/secrets.md warns of: from root nothing on a machine is closed."""
    if os.geteuid() != ROOT:
        pytest.skip("only root can tell")
    secret = settings_for(NO_DATABASE, NOWHERE)["TOKEN_BROKER_KEYSET"].encode()
    async with running(*SERVE, env=settings_for(NO_DATABASE, NOWHERE)) as broker:
        await broker.err.line("broker.started")
        assert secret in Path(f"/proc/{broker.pid}/environ").read_bytes()  # noqa: ASYNC240  # not a disk


@contextmanager
def with_cores(folder: Path, *command: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A process whose core the system may dump into the folder."""
    with subprocess.Popen(
        [*WITH_CORES, *command],
        cwd=folder,
        env=environment(settings_for(NO_DATABASE, NOWHERE)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def aborted(process: "subprocess.Popen[str]") -> tuple[bool, bool]:
    """Whether SIGABRT ended it, and whether the system dumped its core."""
    process.send_signal(signal.SIGABRT)
    _, status = os.waitpid(process.pid, 0)
    return os.WTERMSIG(status) == signal.SIGABRT, os.WCOREDUMP(status)


def until_started(process: "subprocess.Popen[str]") -> None:
    """Return when the broker says that it has started."""
    assert process.stderr is not None
    assert any("broker.started" in line for line in process.stderr), "it ended"


def requires_cores(folder: Path) -> None:
    """Skip where this machine dumps no process's core; in CI that is a failure."""
    with with_cores(folder, *BYSTANDER) as bystander:
        assert bystander.stdout is not None
        bystander.stdout.readline()
        if aborted(bystander) == (True, True):
            return
    if os.environ.get("CI"):
        pytest.fail("this machine dumps no cores; in CI no test may be skipped", pytrace=False)
    pytest.skip("this machine dumps no cores (ulimit -Hc, /proc/sys/kernel/core_pattern)")


def test_crash_leaves_no_core_dump(tmp_path: Path) -> None:
    """A core is a file with every token in it. Neither by a limit that its parent raised, nor by one raised afterwards."""
    folder = tmp_path / "bystander"
    folder.mkdir()
    requires_cores(folder)
    folder = tmp_path / "broker"
    folder.mkdir()
    with with_cores(folder, *SERVE) as broker:
        until_started(broker)
        # Only a root that may (CAP_SYS_RESOURCE) can: a container's mostly may not.
        with suppress(PermissionError):
            resource.prlimit(broker.pid, resource.RLIMIT_CORE, UNLIMITED)
        assert aborted(broker) == (True, False)
    assert list(folder.iterdir()) == []


def test_limit_on_core_dumps_is_zero_and_stays(tmp_path: Path) -> None:
    """The second bar, and the only one beyond Linux: the process itself can't raise it again."""
    with with_cores(tmp_path, *SERVE) as broker:
        until_started(broker)
        limits = Path(f"/proc/{broker.pid}/limits").read_text().splitlines()
    (core,) = (line.split() for line in limits if line.startswith("Max core file size"))
    assert core[-3:] == ["0", "0", "bytes"]
