"""Values that can't be are refused before anything is replaced, by a sentence that says what to do."""

import json

import pytest

from deploy.chart import CHART, ChartRefused, render
from tests.deploy.conftest import Rendered

# Values on top of the ten lines, and what is said of them.
CONTRADICTIONS = [
    ("apps: []", "apps must name at least one Envoy app"),
    ('apps: [{pluginId: "1", clientId: a}, {pluginId: "1", clientId: b}]', "names the pluginId 1 twice"),
    (
        'apps: [{pluginId: "1", clientId: a, previousClientSecret: {key: client-secret-1}}]',
        "must be another than the secret that is in use",
    ),
    ("image: {repository: ''}", "image.repository must name the image"),
    (
        "secrets: {existingSecret: ''}",
        "the Secret that holds secrets.databaseUrl, secrets.keyset, secrets.auditKey",
    ),
    ("secrets: {existingSecret: ''}", "the clientSecret of app 4242"),
    ("migration: {existingSecret: ''}", "migration.existingSecret must name the Secret"),
    ("tls: {existingSecret: ''}", "tls.existingSecret must name"),
    ("callers: {certificates: {enabled: false}}", "so that callers prove who they are"),
    (
        "callers: {tokens: {enabled: true, issuer: 'https://issuer.test'}}",
        "callers.tokens.audience must be set",
    ),
    ("callers: {tokens: {keysCaConfigMap: authority}}", "belongs to callers.tokens.keysUrl"),
    ("policy: {existingConfigMap: ''}", "without a policy nobody is served"),
    ("policy: {cedar: 'forbid (principal, action, resource);'}", "keep one"),
    ("policy: {existingConfigMap: '', cedar: x, groupsKey: groups.json}", "policy.groupsKey is a key of"),
    ("audit: {log: ''}", "without a record nobody is served"),
    ("audit: {secondLog: '-'}", "audit.secondLog must be another place"),
    ("workers: 2", "audit.log must be a file where workers is more than 1"),
    (
        "audit: {log: /var/log/token-broker/$(POD_NAME).jsonl}",
        "audit.volume must be set where audit.log is a file",
    ),
    (
        "audit: {secondLog: /var/log/token-broker/audit.jsonl, volume: {emptyDir: {}}}",
        "audit.secondLog must contain $(POD_NAME)",
    ),
    ("networkPolicy: {callers: []}", "networkPolicy.callers must name who may reach"),
    ("ingress: {host: ''}", "ingress.host must be the name"),
    ("operations: {enabled: false, console: true}", "operations.console needs operations.enabled"),
    (
        "{operations: {console: true}, monitoring: {podMonitor: {enabled: true}}}",
        "monitoring.podMonitor.tlsConfig must say how the port is trusted",
    ),
    (
        "{operations: {enabled: false}, monitoring: {podMonitor: {enabled: true}}}",
        "there is nothing to scrape",
    ),
    ("autoscaling: {enabled: true, minReplicas: 11}", "must not be more than autoscaling.maxReplicas"),
    (
        "{autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}",
        "resources.requests.cpu must be set",
    ),
]
# What no value of that name may be, by the schema.
SLIPS = [
    ("replica: 3", "replica"),
    ("apps: [{pluginId: 4242, clientId: a}]", "/apps/0/pluginId"),
    ("apps: [{pluginId: '4242', clientId: a, secret: b}]", "secret"),
    ("workers: 0", "/workers"),
    ("workers: 65", "/workers"),
    ("settings: {TOKEN_BROKER_LAME_DUCK_SECOND: 1}", "TOKEN_BROKER_LAME_DUCK_SECOND"),
    ("settings: {TOKEN_BROKER_LAME_DUCK_SECONDS: 1}", "TOKEN_BROKER_LAME_DUCK_SECONDS"),
    ("settings: {TOKEN_BROKER_INSECURE_SERVE_ANYBODY: true}", "TOKEN_BROKER_INSECURE_SERVE_ANYBODY"),
    ("settings: {TOKEN_BROKER_LOG_LEVEL: loud}", "TOKEN_BROKER_LOG_LEVEL"),
    ("settings: {TOKEN_BROKER_CACHE_ENTRIES: 0}", "TOKEN_BROKER_CACHE_ENTRIES"),
    ("extraEnv: [{name: TOKEN_BROKER_APPS, value: '[]'}]", "/extraEnv/0/name"),
    ("audit: {log: /tmp/audit.jsonl}", "/audit/log"),
    ("callers: {tokens: {keysUrl: 'http://issuer.test'}}", "/callers/tokens/keysUrl"),
    ("callers: {tokens: {algorithms: [HS256]}}", "/callers/tokens/algorithms"),
    ("keysetKmsUri: file:///keys", "/keysetKmsUri"),
    ("networkPolicy: {callers: [{}]}", "/networkPolicy/callers"),
    ("image: {digest: latest}", "/image/digest"),
    ("shutdown: {drainSeconds: 0}", "/shutdown/drainSeconds"),
    ("otlp: {endpoint: collector}", "/otlp/endpoint"),
]


@pytest.mark.parametrize(("values", "said"), [*CONTRADICTIONS, *SLIPS])
def test_wrong_values_are_refused(rendered: Rendered, values: str, said: str) -> None:
    """Found by the one who changes the values, and not by the pods that don't start."""
    with pytest.raises(ChartRefused) as refused:
        rendered(more=values)
    assert said in str(refused.value)


@pytest.mark.usefixtures("rendered")
def test_all_problems_are_told_at_once() -> None:
    """Whoever begins without values learns in one go what is needed."""
    with pytest.raises(ChartRefused) as refused:
        render()
    for name in ("image", "apps", "secrets", "migration", "tls", "policy", "audit", "networkPolicy"):
        assert f"  {name}" in str(refused.value)


def test_schema_refuses_what_it_does_not_know_at_every_level() -> None:
    """A misspelt value must not silently be a default."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    open_ones = [
        place
        for place, node in _objects("", schema)
        if "properties" in node and "additionalProperties" not in node
    ]
    assert open_ones == []


def _objects(place: str, node: object) -> list[tuple[str, dict[str, object]]]:
    if isinstance(node, list):
        return [found for index, part in enumerate(node) for found in _objects(f"{place}/{index}", part)]
    if not isinstance(node, dict):
        return []
    within = [found for name, part in node.items() for found in _objects(f"{place}/{name}", part)]
    return [(place, node), *within] if node.get("type") == "object" else within
