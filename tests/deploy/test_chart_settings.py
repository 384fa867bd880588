"""What the chart gives a broker is what the broker takes."""

import json
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

import pytest

from broker.config import PREFIX, Settings, load_settings, secret_setting
from broker.config.reading import FILE_SUFFIX
from deploy.chart import CHART, ten_lines
from tests.deploy.conftest import ALL_VALUES, TEN_LINES, Rendered
from tests.deploy.pods import POD_NAME, lay_out, one, pod_specs, variables

# TOKEN_BROKER_APPS names the apps, and a chart serves nobody who is not known.
NEVER_SET: Final = {
    "envoy_plugin_id",
    "envoy_client_id",
    "envoy_client_secret",
    "envoy_previous_client_secret",
    "insecure_serve_anybody",
}
PATHS: Final = (
    "tls_certificate_file",
    "tls_key_file",
    "tls_client_ca_file",
    "jwt_keys_ca_file",
    "jwt_keys_token_file",
    "policy_file",
    "policy_groups_file",
)


def settings_of(rendered: Rendered, values: str, root: Path) -> Settings:
    """The settings of the broker in the pod, by the files that would be mounted there."""
    return load_settings(lay_out(one(rendered(values), "Deployment")["spec"]["template"]["spec"], root))


def own_settings(name: str) -> set[str]:
    """The setting that a variable sets, itself or by a file."""
    setting = name.removeprefix(PREFIX).lower()
    known = setting in Settings.model_fields
    return {setting if known else setting.removesuffix(FILE_SUFFIX.lower())}


@pytest.mark.parametrize("values", ALL_VALUES)
def test_rendered_environment_makes_settings(rendered: Rendered, values: str, tmp_path: Path) -> None:
    """A name or a value that the broker refuses would end every new pod at its start."""
    settings = settings_of(rendered, values, tmp_path)
    assert settings.database_url.reveal().endswith("/database-url")
    assert not settings.grpc_address.is_loopback
    for name in PATHS:
        path = getattr(settings, name)
        assert path is None or Path(path).is_file(), f"{name} names what is not mounted"


def test_each_secret_comes_from_where_the_values_say(rendered: Rendered, tmp_path: Path) -> None:
    """A secret of one app in another's place would be sent to Envoy under the wrong name."""
    settings = settings_of(rendered, "everything", tmp_path)
    first, second = settings.envoy_apps()
    assert first.previous_client_secret is not None
    assert [
        first.client_secret.reveal(),
        first.previous_client_secret.reveal(),
        second.client_secret.reveal(),
    ] == [
        "token-broker/client-secret-4242",
        "token-broker/client-secret-4242-before",
        "second-app/secret",
    ]
    assert settings.keyset.reveal() == "token-broker-keyset/wrapped.json"
    assert settings.database_direct_url is not None
    assert settings.database_direct_url.reveal() == "token-broker/database-direct-url"
    assert (
        Path(settings.tls_client_ca_file or "").read_text(encoding="utf-8")
        == "callers-authorities/bundle.pem"
    )


def test_values_reach_the_broker_as_they_are(rendered: Rendered, tmp_path: Path) -> None:
    """Helm reads numbers as floats: a million written as 1e+06 would be no whole number to the broker."""
    settings = settings_of(rendered, "everything", tmp_path)
    assert settings.cache_entries == 1_000_000
    assert settings.envoy_calls_per_second == 2.5
    assert settings.lame_duck_seconds.total_seconds() == 2.5
    assert settings.reflection is True
    assert settings.jwt_algorithms == ("ES256", "EdDSA")
    assert settings.workers == 2
    assert settings.console is True


def test_cluster_is_asked_for_its_keys_with_a_token_of_its_own(rendered: Rendered, tmp_path: Path) -> None:
    """The API server shows its keys to nobody without one, and the pod has no other."""
    settings = settings_of(rendered, "service-accounts", tmp_path)
    assert settings.jwt_keys == "https://kubernetes.default.svc/openid/v1/jwks"
    assert Path(settings.jwt_keys_token_file or "").read_text(encoding="utf-8") == "token"
    assert Path(settings.jwt_keys_ca_file or "").read_text(encoding="utf-8") == "kube-root-ca.crt/ca.crt"
    assert settings.tls_client_ca_file is None


def test_each_pod_has_a_record_of_its_own(rendered: Rendered, tmp_path: Path) -> None:
    """Two writers in one file would make a trail that can't be verified."""
    settings = settings_of(rendered, "service-accounts", tmp_path)
    assert settings.audit_log == str(tmp_path / f"var/log/token-broker/{POD_NAME}.jsonl")


def test_schema_knows_each_setting_that_the_chart_does_not_set(rendered: Rendered) -> None:
    """A new setting must be within reach of the values, and none that the chart sets may be set twice."""
    by_chart = {
        setting
        for values in ALL_VALUES
        for name in variables(
            one(rendered(values, "settings: null"), "Deployment")["spec"]["template"]["spec"]
        )
        if name.startswith(PREFIX)
        for setting in own_settings(name)
    }
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    offered = schema["properties"]["settings"]["properties"]
    assert set(offered) == {
        f"{PREFIX}{name.upper()}" for name in Settings.model_fields.keys() - by_chart - NEVER_SET
    }
    for name, field in Settings.model_fields.items():
        if get_origin(field.annotation) is Literal and name not in by_chart:
            assert tuple(offered[f"{PREFIX}{name.upper()}"]["enum"]) == get_args(field.annotation), name


def test_migration_knows_the_owner_and_no_broker_does(rendered: Rendered, tmp_path: Path) -> None:
    """A broker that is taken over must not be able to change the schema, or to drop a table."""
    [broker, migration] = pod_specs(rendered(TEN_LINES))
    url = secret_setting("database_url", lay_out(migration, tmp_path))
    assert url.reveal() == "token-broker-owner/database-url"
    assert "token-broker-owner" not in json.dumps(broker)
    assert migration["containers"][0]["args"] == ["migrate", "--grant-to", "token_broker_serving"]


def test_ten_lines_are_enough() -> None:
    """What the guide promises: whoever has the secrets is ten lines away from a broker."""
    assert len(ten_lines().strip().splitlines()) <= 10
