"""Settings: every problem at once, by the variable's name, never its value."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from broker.config import SettingsError, load_settings

SHOWN = "do-not-show-me"
# What every broker needs that serves others than its own machine.
WITHOUT_CALLERS = {
    "TOKEN_BROKER_DATABASE_URL": "postgresql://db/broker",
    "TOKEN_BROKER_KEYSET": "{}",
    "TOKEN_BROKER_ENVOY_CLIENT_ID": "client",
    "TOKEN_BROKER_ENVOY_CLIENT_SECRET": SHOWN,
}
GOOD = {**WITHOUT_CALLERS, "TOKEN_BROKER_INSECURE_SERVE_ANYBODY": "true"}
RECORDED = {
    "TOKEN_BROKER_POLICY_FILE": "/etc/policy.cedar",
    "TOKEN_BROKER_AUDIT_LOG": "-",
    "TOKEN_BROKER_AUDIT_KEY": SHOWN,
}
MUTUAL_TLS = {
    "TOKEN_BROKER_TLS_CERTIFICATE_FILE": "/etc/tls.crt",
    "TOKEN_BROKER_TLS_KEY_FILE": "/etc/tls.key",
    "TOKEN_BROKER_TLS_CLIENT_CA_FILE": "/etc/ca.crt",
}
BEARER_TOKENS = {
    "TOKEN_BROKER_JWT_ISSUER": "https://issuer.test",
    "TOKEN_BROKER_JWT_AUDIENCE": "token-broker",
    "TOKEN_BROKER_JWT_KEYS": "/etc/jwks.json",
}
ANYWHERE = {"TOKEN_BROKER_GRPC_ADDRESS": "0.0.0.0:50051"}
NO_SINGLE_APP = {name: value for name, value in GOOD.items() if "ENVOY" not in name}


def problems_of(environ: dict[str, str]) -> str:
    """What is wrong with an environment, as a person reads it."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert SHOWN not in str(caught.value)
    return str(caught.value)


def apps(*entries: object) -> dict[str, str]:
    """An environment with several apps."""
    return {**NO_SINGLE_APP, "TOKEN_BROKER_APPS": json.dumps(entries)}


def test_least_that_is_needed_is_enough() -> None:
    """A newcomer on one machine sets five variables; everything else has a default that is safe."""
    settings = load_settings({**GOOD, "PATH": "/bin"})
    assert settings.call_seconds == timedelta(seconds=30)
    assert [app.plugin_id for app in settings.envoy_apps()] == ["default"]
    assert SHOWN not in repr(settings)


def test_all_problems_are_told_at_once() -> None:
    """One restart for each mistake is a bad night."""
    told = problems_of(
        {
            "TOKEN_BROKER_KEYSET_FILE": "/no/such/file",
            "TOKEN_BROKER_GRPC_ADRESS": SHOWN,
            "TOKEN_BROKER_CALL_SECONDS": SHOWN,
            "TOKEN_BROKER_CLAIM_SECONDS": "nan",
            "TOKEN_BROKER_HTTP_ADDRESS": SHOWN,
            "TOKEN_BROKER_ENVOY_TOKEN_URL": f"http://{SHOWN}.example/",
            "TOKEN_BROKER_ENVOY_CLIENT_ID": "alone",
        }
    )
    for expected in (
        "TOKEN_BROKER_DATABASE_URL must be set",
        "TOKEN_BROKER_KEYSET_FILE",
        "did you mean TOKEN_BROKER_GRPC_ADDRESS?",
        "TOKEN_BROKER_CALL_SECONDS",
        "TOKEN_BROKER_CLAIM_SECONDS",
        "TOKEN_BROKER_HTTP_ADDRESS",
        "TOKEN_BROKER_ENVOY_TOKEN_URL",
        "TOKEN_BROKER_ENVOY_CLIENT_SECRET, or TOKEN_BROKER_APPS, must be set",
    ):
        assert expected in told


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"TOKEN_BROKER_CLAIM_SECONDS": "34"}, "34 < 30 + 5"),
        ({"TOKEN_BROKER_GRPC_ADDRESS": "0.0.0.0:50051"}, "loopback"),
        ({"TOKEN_BROKER_CACHE_ENTRIES": "0"}, "TOKEN_BROKER_CACHE_ENTRIES"),
        ({"TOKEN_BROKER_ENVOY_CLIENT_SECRET": ""}, "must not be empty"),
        ({"TOKEN_BROKER_ENVOY_CLIENT_SECRET_FILE": "x"}, "are both set"),
        ({"TOKEN_BROKER_ENVOY_REQUEST_FORM": SHOWN}, "multipart"),
        ({"TOKEN_BROKER_APPS": "[]"}, "in two ways"),
    ],
)
def test_what_can_not_be_is_refused(change: dict[str, str], expected: str) -> None:
    """Each would otherwise be a fault at run time, or a quiet default."""
    assert expected in problems_of({**GOOD, **change})


@pytest.mark.parametrize(
    "environ",
    [
        {**MUTUAL_TLS, **RECORDED},
        {**MUTUAL_TLS, **RECORDED, **ANYWHERE},
        {**BEARER_TOKENS, **RECORDED},
        {**BEARER_TOKENS, **MUTUAL_TLS, **RECORDED, **ANYWHERE},
    ],
)
def test_callers_may_be_known_in_several_ways(environ: dict[str, str]) -> None:
    """By certificate, by bearer token, or by both."""
    settings = load_settings({**WITHOUT_CALLERS, **environ})
    assert settings.jwt_algorithms == ("RS256", "ES256")
    assert not settings.insecure_serve_anybody


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "TLS_CLIENT_CA_FILE or TOKEN_BROKER_JWT_ISSUER must be set"),
        (RECORDED, "TLS_CLIENT_CA_FILE or TOKEN_BROKER_JWT_ISSUER must be set"),
        (MUTUAL_TLS, "POLICY_FILE must be set where callers are known"),
        (MUTUAL_TLS, "AUDIT_LOG must be set where callers are known"),
        (MUTUAL_TLS, "AUDIT_KEY must be set where callers are known"),
        ({"TOKEN_BROKER_TLS_CLIENT_CA_FILE": "/etc/ca.crt"}, "TLS_KEY_FILE must be set for TLS"),
        ({"TOKEN_BROKER_JWT_ISSUER": "https://issuer.test"}, "JWT_AUDIENCE must be set for bearer tokens"),
        ({**BEARER_TOKENS, **RECORDED, **ANYWHERE}, "bearer tokens would travel in the clear"),
        ({**BEARER_TOKENS, "TOKEN_BROKER_JWT_ALGORITHMS": "HS256"}, "must be names out of"),
        ({**BEARER_TOKENS, "TOKEN_BROKER_JWT_ALGORITHMS": "none"}, "must be names out of"),
        ({**BEARER_TOKENS, "TOKEN_BROKER_JWT_ALGORITHMS": ","}, "must be names out of"),
        (
            {**MUTUAL_TLS, **RECORDED, "TOKEN_BROKER_INSECURE_SERVE_ANYBODY": "true"},
            "INSECURE_SERVE_ANYBODY contradicts",
        ),
        ({"TOKEN_BROKER_INSECURE_SERVE_ANYBODY": "true", **ANYWHERE}, "must be a loopback address"),
        ({**MUTUAL_TLS, **RECORDED, "TOKEN_BROKER_AUDIT_SECOND_LOG": "-"}, "must be another place"),
        ({"TOKEN_BROKER_AUDIT_SECOND_LOG": "-"}, "AUDIT_LOG must be set where"),
        (
            {"TOKEN_BROKER_INSECURE_SERVE_ANYBODY": "true", "TOKEN_BROKER_AUDIT_LOG": "-"},
            "AUDIT_KEY must be set where a record is kept",
        ),
    ],
)
def test_half_open_door_is_refused(environ: dict[str, str], expected: str) -> None:
    """Nobody is served by accident: without a name, a policy or a record, or in the clear."""
    assert expected in problems_of({**WITHOUT_CALLERS, **environ})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (apps(), "at least one app"),
        ({**NO_SINGLE_APP, "TOKEN_BROKER_APPS": SHOWN}, "JSON list"),
        (apps({"plugin_id": "1", "client_id": "c"}), "client_secret"),
        (apps({"plugin_id": "1", "client_id": "c", "client_secret": SHOWN, "x": 1}), ".x"),
        (
            apps({"plugin_id": "1", "client_id": "c", "client_secret": SHOWN, "client_secret_file": "/f"}),
            "keep one",
        ),
        (apps({"plugin_id": "1", "client_id": "c", "client_secret_file": 7}), "must be a path"),
        (apps(*[{"plugin_id": "1", "client_id": "c", "client_secret": SHOWN}] * 2), "twice"),
    ],
)
def test_apps_that_can_not_be_are_refused(environ: dict[str, str], expected: str) -> None:
    """A file that silently wins over a secret is how an old secret stays in use."""
    assert expected in problems_of(environ)


def test_secrets_may_stand_in_files(tmp_path: Path) -> None:
    """What an orchestrator mounts; an editor's last newline is no part of it."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SHOWN}\n")
    (one,) = load_settings(
        {
            **NO_SINGLE_APP,
            "TOKEN_BROKER_ENVOY_CLIENT_ID": "client",
            "TOKEN_BROKER_ENVOY_CLIENT_SECRET_FILE": str(secret),
        }
    ).envoy_apps()
    (other,) = load_settings(
        apps({"plugin_id": "4242", "client_id": "client", "client_secret_file": str(secret)})
    ).envoy_apps()
    assert one.client_secret.reveal() == other.client_secret.reveal() == SHOWN
    assert (one.verify_plugin_id, other.verify_plugin_id) == (False, True)
