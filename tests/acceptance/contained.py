"""Containers without an engine: an image's files as a read-only root, for processes of which the first is nobody's.

What an engine does for `--read-only --cap-drop ALL --security-opt no-new-privileges` is done by unshare, mount and
setpriv. The network is this machine's.
"""

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.images import Image
from tests.processes import Finished, Running, running
from tests.toolchains import requires_program

SECRETS: Final = Path("/run/secrets")
RECORDS: Final = Path("/var/log/token-broker")
# In namespaces of its own, so that nothing is left mounted. As the shell ends in exec, the last program is process 1.
_ENTER: Final = f"""
root=$1; secrets=$2; records=$3; shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind "$secrets" "$root{SECRETS}"
mount -o remount,bind,ro "$root{SECRETS}"
mount --bind "$records" "$root{RECORDS}"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Container:
    """What an image is run with.

    Attributes:
        root: its files.
        secrets: what is mounted at SECRETS, for its user to read.
        records: what is mounted at RECORDS, for its user to write.
        settings: its variables, beside the image's.
    """

    image: Image
    root: Path
    secrets: Path
    records: Path
    settings: Mapping[str, str]

    async def run(self, arguments: Sequence[str]) -> Finished:
        """Run a command inside, to its end."""
        async with running(*self._command(arguments)) as process:
            return await process.end()

    @asynccontextmanager
    async def start(self, *arguments: str) -> AsyncIterator["Served"]:
        """Start what the image starts, by its own arguments or by these; returns when it is ready."""
        config = self.image.config
        command = self._command([*config["Entrypoint"], *(arguments or config["Cmd"])])
        async with running(*command) as process:
            started = json.loads(await process.err.line('"broker.started"'))
            await process.err.line('"broker.ready"')
            yield Served(process, started)

    def _command(self, arguments: Sequence[str]) -> list[str | Path]:
        unshare, user = requires_program("unshare"), self.image.config["User"].partition(":")[0]
        # The outer one keeps its rights, and with them the signal that ends all inside when it dies.
        outer = (unshare, "--pid", "--fork", "--kill-child")
        inner = (unshare, "--mount", "--pid", "--fork", "--kill-child")
        enter = ("sh", "-ec", _ENTER, "sh", self.root, self.secrets, self.records)
        environment = {**self.image.environment, **self.settings}
        variables = [f"{name}={value}" for name, value in environment.items()]
        nobody = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs")
        powerless = ("--bounding-set=-all", "--inh-caps=-all")
        return [*outer, *inner, *enter, "/usr/bin/env", "-i", *variables, *nobody, *powerless, *arguments]


@dataclass(frozen=True)
class Served:
    """A broker that runs in a container. `started`: what it says of itself."""

    process: Running
    started: Mapping[str, Any]

    @property
    def first(self) -> int:
        """This machine's number of the process that is number 1 inside."""
        return _only_child(_only_child(self.process.pid))

    def status(self) -> dict[str, str]:
        """What the kernel says of that process."""
        lines = Path(f"/proc/{self.first}/status").read_text().splitlines()
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def container(image: Image, root: Path, folder: Path, settings: Mapping[str, str], *secret: str) -> Container:
    """A container in `root` with its mounts in `folder`; the settings named in `secret` become files."""
    user = int(image.config["User"].partition(":")[0])
    secrets, records = folder / "secrets", folder / "records"
    for mounted, at in ((secrets, SECRETS), (records, RECORDS)):
        mounted.mkdir()
        os.chown(mounted, user, user)
        # An engine makes the place for a mount, too.
        (root / at.relative_to("/")).mkdir(parents=True, exist_ok=True)
    given = dict(settings)
    for name in secret:
        file = secrets / name
        file.write_text(given.pop(name))
        file.chmod(0o400)
        os.chown(file, user, user)
        given[f"{name}_FILE"] = str(SECRETS / name)
    return Container(image, root, secrets, records, given)


def _only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
