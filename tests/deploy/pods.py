"""A container of a manifest as the kubelet would start it: its variables, and the files behind them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from deploy.chart import NAMESPACE, Manifest

POD_NAME: Final = "token-broker-7c9f4d-x2x4z"
_FIELDS: Final = {"metadata.name": POD_NAME, "metadata.namespace": NAMESPACE}
_REFERENCE: Final = re.compile(r"\$\((\w+)\)")


def one(manifests: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """The only object of this kind whose name ends so."""
    [found] = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(suffix)]
    return found


def pod_specs(manifests: list[Manifest]) -> list[dict[str, Any]]:
    """The pods of whatever starts some."""
    return [m["spec"]["template"]["spec"] for m in manifests if m["kind"] in {"Deployment", "Job"}]


def variables(pod: dict[str, Any]) -> dict[str, str]:
    """The container's environment, references filled in, in the order they stand in."""
    [container] = pod["containers"]
    values: dict[str, str] = {}
    for entry in container["env"]:
        assert entry["name"] not in values, f"{entry['name']} is set twice"
        value = entry.get("value") or _referred(entry)
        values[entry["name"]] = _REFERENCE.sub(lambda match: values[match[1]], value)
    return values


def _referred(entry: dict[str, Any]) -> str:
    source = entry["valueFrom"]
    return (
        _FIELDS[source["fieldRef"]["fieldPath"]] if "fieldRef" in source else _named(**source["secretKeyRef"])
    )


def _named(name: str, key: str) -> str:
    return f"{name}/{key}"


def lay_out(pod: dict[str, Any], root: Path) -> dict[str, str]:
    """Make the container's files below `root`, and return its environment with the paths there.

    What a file holds names where it came from: SECRET/KEY, CONFIGMAP/KEY, or "token".
    """
    [container] = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    environ = variables(pod)
    for mount in container["volumeMounts"]:
        folder = root / mount["mountPath"].removeprefix("/")
        folder.mkdir(parents=True)
        for path, content in _files(volumes[mount["name"]]):
            (folder / path).write_text(content, encoding="utf-8")
        environ = {
            name: value.replace(f"{mount['mountPath']}/", f"{folder}/") for name, value in environ.items()
        }
    return environ


def _files(volume: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for source in volume.get("projected", {}).get("sources", [volume]):
        if "serviceAccountToken" in source:
            yield source["serviceAccountToken"]["path"], "token"
        for kind in ("secret", "configMap"):
            held = source.get(kind, {})
            name = held.get("name") or held.get("secretName")
            for item in held.get("items", []):
                yield item["path"], _named(name, item["key"])
