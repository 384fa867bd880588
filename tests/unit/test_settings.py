"""Settings: every problem at once, by the variable's name, never its value."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from broker.config import SettingsError, load_settings

SHOWN = "do-not-show-me"
GOOD = {
    "TOKEN_BROKER_DATABASE_URL": "postgresql://db/broker",
    "TOKEN_BROKER_KEYSET": "{}",
    "TOKEN_BROKER_ENVOY_CLIENT_ID": "client",
    "TOKEN_BROKER_ENVOY_CLIENT_SECRET": SHOWN,
}
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
    """A newcomer sets four variables; everything else has a default that is safe."""
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
