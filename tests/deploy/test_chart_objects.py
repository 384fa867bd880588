"""What the chart makes: nothing that could be another's, and nothing that leads nowhere."""

import json
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from broker import __version__
from broker.workers import CLOSING
from deploy.chart import CHART, ROOT, Manifest
from tests.deploy.conftest import ALL_VALUES, Rendered
from tests.deploy.pods import one, pod_specs, variables

WORKERS: Final = 3
LONG_END: Final = "shutdown: {preStopSeconds: 30, lameDuckSeconds: 20.5, drainSeconds: 90}"
NO_PRE_STOP: Final = {"preStop": {"sleep": {"seconds": 0}}}


def broker_pod(manifests: list[Manifest]) -> dict[str, Any]:
    """The template of the pods that serve."""
    template: dict[str, Any] = one(manifests, "Deployment")["spec"]["template"]
    return template


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector finds what has these labels."""
    return selector.items() <= labels.items()


def ports_of(manifests: list[Manifest]) -> dict[str, int]:
    """The broker's ports by name."""
    [container] = broker_pod(manifests)["spec"]["containers"]
    return {port["name"]: port["containerPort"] for port in container["ports"]}


@pytest.mark.parametrize("values", ALL_VALUES)
def test_no_pod_has_more_rights_than_it_needs(rendered: Rendered, values: str) -> None:
    """Kubernetes' restricted standard, and no token of the cluster: whoever takes a broker over has a broker."""
    user = int(
        re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[-1]
    )
    for pod in pod_specs(rendered(values)):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "privileged": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("values", ALL_VALUES)
def test_kubernetes_adds_no_variables_of_its_own(rendered: Rendered, values: str) -> None:
    """TOKEN_BROKER_SERVICE_HOST, of the Service of that name, is no setting: the broker would refuse to start."""
    assert all(pod["enableServiceLinks"] is False for pod in pod_specs(rendered(values)))


@pytest.mark.parametrize("values", ALL_VALUES)
def test_kubernetes_waits_until_the_drain_is_over(rendered: Rendered, values: str) -> None:
    """A pod that is killed before has refresh tokens whose outcome nobody knows: each costs a mint."""
    for more in ("", LONG_END):
        pod = broker_pod(rendered(values, more))["spec"]
        environ, [container] = variables(pod), pod["containers"]
        steps = [
            container.get("lifecycle", NO_PRE_STOP)["preStop"]["sleep"]["seconds"],
            environ["TOKEN_BROKER_LAME_DUCK_SECONDS"],
            environ["TOKEN_BROKER_DRAIN_SECONDS"],
            CLOSING.total_seconds(),
        ]
        assert pod["terminationGracePeriodSeconds"] >= sum(map(float, steps))


@pytest.mark.parametrize("values", ALL_VALUES)
def test_what_selects_pods_finds_brokers_and_no_migration(rendered: Rendered, values: str) -> None:
    """A call that is sent to a migration, or a budget that counts it, would be wrong for minutes at each upgrade."""
    manifests = rendered(values)
    brokers = broker_pod(manifests)["metadata"]["labels"]
    migrations = [m["spec"]["template"]["metadata"]["labels"] for m in manifests if m["kind"] == "Job"]
    selectors = [
        m["spec"]["selector"]
        for m in manifests
        if m["kind"] in {"Service", "PodDisruptionBudget", "PodMonitor"}
    ]
    selectors += [
        m["spec"]["podSelector"]
        for m in manifests
        if m["kind"] == "NetworkPolicy" and not m["metadata"]["name"].endswith("-migrate")
    ]
    for selector in selectors:
        labels = selector.get("matchLabels", selector)
        assert selects(labels, brokers)
        assert not any(selects(labels, migration) for migration in migrations)


@pytest.mark.parametrize("values", ALL_VALUES)
def test_addresses_and_ports_agree(rendered: Rendered, values: str) -> None:
    """A port that nobody listens at is a probe that fails, or a Service that leads nowhere."""
    manifests = rendered(values)
    environ, ports = variables(broker_pod(manifests)["spec"]), ports_of(manifests)
    listened = {
        name: environ.get(f"TOKEN_BROKER_{name.upper()}_ADDRESS") for name in ("grpc", "http", "operations")
    }
    assert {name: int(address.rpartition(":")[2]) for name, address in listened.items() if address} == {
        name: port for name, port in ports.items() if name in listened
    }
    [container] = broker_pod(manifests)["spec"]["containers"]
    probed = {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")}
    served = {port["targetPort"] for m in manifests if m["kind"] == "Service" for port in m["spec"]["ports"]}
    assert probed | served <= ports.keys()


def test_each_worker_is_scraped_and_let_be_scraped(rendered: Rendered) -> None:
    """Each has metrics of its own: a worker that is left out would be a share of the calls that nobody sees."""
    manifests = rendered("everything", f"workers: {WORKERS}")
    names = ["operations", "operations-1", "operations-2"]
    ports = ports_of(manifests)
    assert [ports[name] for name in names] == [9090, 9091, 9092]
    assert [e["port"] for e in one(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"]] == names
    [_grpc, _http, operations] = one(manifests, "NetworkPolicy", "tokens")["spec"]["ingress"]
    assert [port["port"] for port in operations["ports"]] == names


def test_nobody_is_not_everybody(rendered: Rendered) -> None:
    """In a NetworkPolicy an empty list of peers is the whole world."""
    policy = one(
        rendered(more="networkPolicy: {webhooks: [], operations: []}"), "NetworkPolicy", "token-broker"
    )
    assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [[{"port": "grpc"}]]


def test_outside_sees_webhooks_alone(rendered: Rendered) -> None:
    """The HTTP port has probes too, which tell what is wrong inside."""
    [rule] = one(rendered(), "Ingress")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/envoy/webhooks"]


def test_migration_comes_before_what_needs_it(rendered: Rendered) -> None:
    """A broker of the new release on the old schema is never ready."""
    job, policy = one(rendered(), "Job"), one(rendered(), "NetworkPolicy", "-migrate")
    hooks = [manifest["metadata"]["annotations"] for manifest in (policy, job)]
    assert {hook["helm.sh/hook"] for hook in hooks} == {"pre-install,pre-upgrade"}
    assert int(hooks[0]["helm.sh/hook-weight"]) < int(hooks[1]["helm.sh/hook-weight"])
    # Accounts of the release are not there yet at an install.
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]


def test_chart_holds_no_secret(rendered: Rendered) -> None:
    """What a chart renders, Helm keeps, and whoever may read releases reads it."""
    kinds = {m["kind"] for m in chain.from_iterable(rendered(values) for values in ALL_VALUES)}
    assert "Deployment" in kinds
    assert "Secret" not in kinds


def test_alerts_and_dashboard_are_those_that_are_tested(rendered: Rendered) -> None:
    """A copy by hand would be an alert without its tests."""
    manifests = rendered("everything")
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))
    assert one(manifests, "PrometheusRule")["spec"] == alerts
    dashboard = json.loads(one(manifests, "ConfigMap", "-dashboard")["data"]["token-broker.json"])
    assert dashboard == json.loads((ROOT / "deploy/grafana/token-broker.json").read_text(encoding="utf-8"))


def test_chart_is_of_this_release(rendered: Rendered) -> None:
    """The image of another release may not know the settings that this chart sets."""
    assert yaml.safe_load(Path(CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"] == __version__
    image = broker_pod(rendered())["spec"]["containers"][0]["image"]
    assert image == f"registry.example.com/envoy-token-broker:{__version__}"
    assert "@sha256:" in broker_pod(rendered("everything"))["spec"]["containers"][0]["image"]


def test_autoscaler_is_not_contradicted(rendered: Rendered) -> None:
    """A count in the Deployment would undo the autoscaler's at each upgrade."""
    assert "replicas" not in one(rendered("everything"), "Deployment")["spec"]
    assert one(rendered(), "Deployment")["spec"]["replicas"] == 3
