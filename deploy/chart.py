"""Renders the Helm chart, as `helm template` does; nothing is asked of a cluster."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "deploy/helm/token-broker"
# Values that use what the chart has, each file another way to deploy. Not packaged with the chart.
EXAMPLES: Final = tuple(sorted((CHART / "ci").glob("*.yaml")))
GUIDE: Final = ROOT / "docs/deploy.md"
# Made by `make build/go/bin/helm` (deploy/tools/go.mod says which).
BUILT_HELM: Final = ROOT / "build/go/bin/helm"

# The oldest that the chart takes (Chart.yaml), and the newest that there are schemas for.
OLDEST_KUBERNETES: Final = "1.30.0"
NEWEST_KUBERNETES: Final = "1.37.0"
RELEASE: Final = "token-broker"
NAMESPACE: Final = "brokers"

_PATIENCE_SECONDS: Final = 60
_FIRST_VALUES: Final = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What Helm says of the chart's links to the alerts and the dashboard: that they are in order.
_OF_LINKS: Final = re.compile(r"^walk\.go:.*\n?", re.MULTILINE)

Manifest = dict[str, Any]


class ChartRefused(Exception):
    """The chart can't be rendered with these values, or is none. The text is Helm's."""


def helm() -> str:
    """Helm's path.

    Raises:
        FileNotFoundError: it is neither built nor on PATH.
    """
    found = str(BUILT_HELM) if BUILT_HELM.exists() else shutil.which("helm")
    if found is None:
        raise FileNotFoundError("no helm: run `make build/go/bin/helm` (needs Go)")
    return found


def render(*values: Path, kubernetes: str = NEWEST_KUBERNETES) -> list[Manifest]:
    """What would be applied, hooks included, with the values of these files, the last first.

    Raises:
        ChartRefused.
    """
    text = run("template", RELEASE, str(CHART), *_flags(values, kubernetes), "--namespace", NAMESPACE)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest is not None]


def lint(*values: Path) -> None:
    """Nothing, if Helm finds no fault, not even a small one.

    Raises:
        ChartRefused.
    """
    run("lint", "--strict", "--quiet", str(CHART), *_flags(values, NEWEST_KUBERNETES))


def ten_lines() -> str:
    """The values that docs/deploy.md says are enough: its first block of YAML.

    Raises:
        ValueError: there is none.
    """
    block = _FIRST_VALUES.search(GUIDE.read_text(encoding="utf-8"))
    if block is None:
        raise ValueError(f"{GUIDE.name} shows no values")
    return block[1]


def run(*arguments: str) -> str:
    """What Helm prints.

    Raises:
        ChartRefused: it exits with an error.
    """
    ended = subprocess.run(  # noqa: S603 (the checkout's own Helm, and our own arguments)
        [helm(), *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, "HELM_NO_PLUGINS": "1"},
        timeout=_PATIENCE_SECONDS,
    )
    if ended.returncode:
        raise ChartRefused(_OF_LINKS.sub("", f"{ended.stdout}{ended.stderr}").strip())
    return ended.stdout


def _flags(values: Iterable[Path], kubernetes: str) -> Sequence[str]:
    return ["--kube-version", kubernetes, *(flag for path in values for flag in ("--values", str(path)))]
