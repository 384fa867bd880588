"""Checks what deploys a broker, without a cluster or an engine: `python -m deploy.check`.

The chart is linted, and rendered with each of its example values and with the ten lines of docs/deploy.md; each object
is judged by the schemas of the oldest and the newest Kubernetes that the chart takes, unknown fields refused. The
compose file is read as compose's specification has it. What runs on it is a matter of the tests (tests/deploy).
"""

import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import compose_spec
import jsonschema
import kubernetes_validate

from deploy.chart import (
    CHART,
    EXAMPLES,
    NEWEST_KUBERNETES,
    OLDEST_KUBERNETES,
    ChartRefused,
    Manifest,
    lint,
    render,
    run,
    ten_lines,
)
from deploy.compose_file import COMPOSE_FILE, VariableMissing, compose_text
from deploy.crds import SCHEMAS

# What compose.yaml has no default for.
_COMPOSE_VARIABLES: Final = {"ENVOY_PLUGIN_ID": "4242", "ENVOY_CLIENT_ID": "client"}
# What the chart has of other folders, by links that packaging must follow.
_LINKED: Final = ("files/alerts.yaml", "files/token-broker.json")


def main() -> int:
    """Exit status 1, and a line for each problem, if there is one."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder) / "the ten lines of docs-deploy.md"
        shown.write_text(ten_lines(), encoding="utf-8")
        values = [*EXAMPLES, shown]
        problems = [*(problem for path in values for problem in _of_values(path)), *_of_package(Path(folder))]
    problems += _of_compose()
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if not problems:
        seconds = time.monotonic() - began
        sys.stdout.write(f"deploy: {len(values)} ways to render the chart, and compose  [{seconds:.1f} s]\n")
    return 1 if problems else 0


def _of_values(values: Path) -> Iterator[str]:
    try:
        lint(values)
        for kubernetes in (OLDEST_KUBERNETES, NEWEST_KUBERNETES):
            for manifest in render(values, kubernetes=kubernetes):
                for problem in _of_manifest(manifest, kubernetes):
                    yield f"{values.name}: {_name(manifest)}, Kubernetes {kubernetes}: {problem}"
    except ChartRefused as refused:
        yield f"{values.name}: {refused}"


def _of_manifest(manifest: Manifest, kubernetes: str) -> Iterator[str]:
    try:
        if manifest["kind"] in SCHEMAS:
            jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, kubernetes, strict=True)
    except jsonschema.ValidationError as invalid:
        yield f"{'.'.join(str(part) for part in invalid.path)}: {invalid.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield "no such kind of object"


def _of_package(folder: Path) -> Iterator[str]:
    """What is missing from the chart as it is published."""
    try:
        run("package", str(CHART), "--destination", str(folder))
    except ChartRefused as refused:
        yield str(refused)
        return
    [archive] = folder.glob("*.tgz")
    with tarfile.open(archive) as package:
        files = {member.name: member for member in package.getmembers()}
    for linked in _LINKED:
        member = files.get(f"{CHART.name}/{linked}")
        if member is None or not member.isfile() or not member.size:
            yield f"the packaged chart lacks {linked}"


def _of_compose() -> Iterator[str]:
    try:
        compose_spec.PyCompose.from_yaml(compose_text(_COMPOSE_VARIABLES)).validate()
    except (ValueError, VariableMissing) as error:
        yield f"{COMPOSE_FILE.name}: {error}"


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


if __name__ == "__main__":
    sys.exit(main())
