"""Container images built without an engine, by buildah, on a base made of Debian's packages by mmdebstrap.

All of it stands in one folder. The driver vfs and the isolation chroot ask the least of a machine: root, and nothing
that is mounted when a run has died.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from tests.toolchains import requires_program

REPOSITORY: Final = Path(__file__).parents[1]
RELEASE: Final = "bookworm"
# libstdc++6 is what gRPC is linked with; whatever has apt has it.
BASE_PACKAGES: Final = ("python3", "python3-venv", "ca-certificates", "libstdc++6")
BASE_NAME: Final = "localhost/base"
# As slim images leave them out.
LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
BUILD_SECONDS: Final = 600
# What of pip's configuration speaks of this machine's files, and not of how a registry is reached.
OF_THIS_MACHINE: Final = ("find-links", "cache-dir", "target", "user", "require-virtualenv")
# Where the Dockerfile has them while pip runs.
REGISTRY_CA: Final = "/run/secrets/registry-ca"
NEEDS_ROOT: Final = "building and running an image needs root"


def requires_root() -> None:
    """Without it the test is skipped with a line that says so; in CI it fails instead."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail(f"{NEEDS_ROOT}; in CI no test may be skipped", pytrace=False)
        pytest.skip(NEEDS_ROOT)


@dataclass(frozen=True)
class Image:
    """An image, and its files. Attributes: root: its whole file system, to look at and not to write."""

    name: str
    root: Path
    facts: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """What an engine runs it by."""
        config: Mapping[str, Any] = self.facts["Docker"]["config"]
        return config

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        return dict(variable.split("=", 1) for variable in self.config["Env"])

    @property
    def layers(self) -> list[str]:
        """The digests of its layers, from the base up."""
        digests: list[str] = self.facts["Docker"]["rootfs"]["diff_ids"]
        return digests

    @property
    def layer_bytes(self) -> list[int]:
        """The layers' sizes, as plain tars."""
        return [layer["size"] for layer in json.loads(self.facts["Manifest"])["layers"]]


class Workshop:
    """Where images are made. Needs root, buildah and mmdebstrap."""

    def __init__(self, folder: Path) -> None:
        requires_root()
        buildah, self._mmdebstrap = requires_program("buildah"), requires_program("mmdebstrap")
        storage = ("--storage-driver", "vfs", "--root", folder / "storage", "--runroot", folder / "run")
        self._buildah = (buildah, *storage)
        self._folder = folder

    def make_base(self) -> None:
        """Make the base: Debian's smallest, and its Python."""
        container = self._do("from", "scratch")
        root = Path(self._do("mount", container))
        options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        packages = f"--include={','.join(BASE_PACKAGES)}"
        _run(
            self._mmdebstrap, "--quiet", "--variant=essential", packages, *options, RELEASE, root, *_mirror()
        )
        self._do("commit", "--quiet", "--format", "docker", "--timestamp", "0", container, BASE_NAME)
        self._do("rm", container)

    def build(self, name: str, context: Path, *, timestamp: int, **arguments: str) -> Image:
        """Build the Dockerfile in `context` on the base. `arguments`: of the build, in lower case."""
        named = [
            f"--build-arg={key.upper()}={value}" for key, value in {"base": BASE_NAME, **arguments}.items()
        ]
        options = ("--format=docker", "--pull=never", "--identity-label=false", f"--timestamp={timestamp}")
        self._do("build", *options, *named, *self._registry_secrets(), "--tag", name, context)
        return self.image(name)

    def image(self, name: str) -> Image:
        """An image that has been made."""
        container = self._do("from", "--pull=never", name)
        facts = json.loads(self._do("inspect", "--type", "image", name))
        return Image(name, Path(self._do("mount", container)), facts)

    def writable_copy(self, image: Image) -> Path:
        """The files of a container of the image's own, to be run."""
        return Path(self._do("mount", self._do("from", "--pull=never", image.name)))

    @property
    def lent(self) -> list[str]:
        """What a build is told of a registry, and no image may tell."""
        return [REGISTRY_CA, *(value for value in _pip_options()[0].values() if "://" in value)]

    def _registry_secrets(self) -> Iterator[str]:
        options, authority = _pip_options()
        lent = self._folder / "pip.conf"
        lent.touch(mode=0o600)
        lent.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in options.items())]))
        yield f"--secret=id=pip.conf,src={lent}"
        if authority:
            yield f"--secret=id=registry-ca,src={authority}"

    def _do(self, *arguments: str | Path) -> str:
        return _run(*self._buildah, *arguments, env={**os.environ, "BUILDAH_ISOLATION": "chroot"})


def _run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, env=env, timeout=BUILD_SECONDS
    )
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout.strip()


def _mirror() -> list[str]:
    """Where apt gets that release, if it does."""
    if shutil.which("apt-get") is None:
        return []
    form = ("--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {RELEASE}", "Component: main")
    return _run("apt-get", "indextargets", *form).split()[:1]


def _pip_options() -> tuple[dict[str, str], str]:
    """What this machine's pip is told by files and variables, for use in a build; and its registry's authority."""
    options = {}
    for line in _run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, value = line.split("=", 1)
        options[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    authority = options.get("cert", "")
    if authority:
        options["cert"] = REGISTRY_CA
    return {key: value for key, value in options.items() if key not in OF_THIS_MACHINE}, authority


@contextmanager
def workshop() -> Iterator[Workshop]:
    """A workshop that is gone afterwards, with all that it made."""
    with TemporaryDirectory(prefix="images-") as folder:
        yield Workshop(Path(folder))
