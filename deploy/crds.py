"""Schemas of the objects that are not Kubernetes' own: no more of them than the chart uses.

By the Prometheus operator's API reference, monitoring.coreos.com/v1. Its own schemas come in no package.
"""

from collections.abc import Mapping
from typing import Any, Final

_TEXT: Final = {"type": "string", "minLength": 1}
_LABELS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_DURATION: Final = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"}


def _strict(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def _object(spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = _strict({"name": _TEXT, "labels": _LABELS, "annotations": _LABELS}, "name")
    parts = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": metadata, "spec": spec}
    return _strict(parts, *parts)


_TLS: Final = {"type": "object", "required": ["ca", "serverName"]}
_ENDPOINT: Final = _strict(
    {
        "port": _TEXT,
        "path": _TEXT,
        "interval": _DURATION,
        "scheme": {"enum": ["http", "https"]},
        "tlsConfig": _TLS,
    },
    "port",
)
_RULE: Final = _strict(
    {
        "alert": _TEXT,
        "record": _TEXT,
        "expr": _TEXT,
        "for": _DURATION,
        "keep_firing_for": _DURATION,
        "labels": _LABELS,
        "annotations": _LABELS,
    },
    "expr",
) | {"oneOf": [{"required": ["alert"]}, {"required": ["record"]}]}
_GROUP: Final = _strict(
    {
        "name": _TEXT,
        "interval": _DURATION,
        "rules": {"type": "array", "minItems": 1, "items": _RULE},
    },
    "name",
    "rules",
)

SCHEMAS: Final[Mapping[str, dict[str, Any]]] = {
    "PodMonitor": _object(
        _strict(
            {
                "selector": _strict({"matchLabels": _LABELS}, "matchLabels"),
                "podMetricsEndpoints": {"type": "array", "minItems": 1, "items": _ENDPOINT},
            },
            "selector",
            "podMetricsEndpoints",
        )
    ),
    "PrometheusRule": _object(
        _strict({"groups": {"type": "array", "minItems": 1, "items": _GROUP}}, "groups")
    ),
}
