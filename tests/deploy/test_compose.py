"""One host: what `prepare` makes is what the broker and Postgres of the compose file take."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from cryptography import x509
from psycopg.conninfo import conninfo_to_dict

from broker import app
from broker.config import Settings
from broker.workers import CLOSING
from deploy.chart import ROOT
from deploy.compose_file import FOLDER, VariableMissing, compose_text, services
from tests.databases import direct_url
from tests.processes import token_broker
from tests.toolchains import requires_program

VARIABLES: Final = {"ENVOY_PLUGIN_ID": "4242", "ENVOY_CLIENT_ID": "client"}
CLIENT_SECRET: Final = "from-the-dashboard"
PATIENCE_SECONDS: Final = 60
EXECUTABLE: Final = 0o755
SERVING: Final = "token_broker_serving"


def prepare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as on a host, with this checkout's command line in place of the image's."""
    return subprocess.run(
        [str(folder / "prepare"), *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, "TOKEN_BROKER": f"{sys.executable} -m broker", "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE_SECONDS,
    )


def fresh_folder(folder: Path) -> Path:
    """The folder of a new host: the files that are in version control, and .env."""
    requires_program("openssl")
    tracked = shutil.ignore_patterns("private", ".env")
    shutil.copytree(FOLDER, folder, ignore=tracked)
    (folder / ".env").write_text(
        "".join(f"{name}={value}\n" for name, value in VARIABLES.items()), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host on which everything has been prepared."""
    folder = fresh_folder(tmp_path_factory.mktemp("host") / "compose")
    (folder / "private/secrets").mkdir(parents=True)
    (folder / "private/secrets/client-secret").write_text(f"{CLIENT_SECRET}\n", encoding="utf-8")
    done = prepare(folder)
    assert done.returncode == 0, done.stderr
    return folder


def make_roles(dsn: str, folder: Path, script: Path) -> None:
    """What Postgres' image does with roles.sh, where the secrets are elsewhere."""
    requires_program("psql")
    text = (folder / "roles.sh").read_text(encoding="utf-8")
    script.write_text(text.replace("/run/secrets", str(folder / "private/secrets")), encoding="utf-8")
    script.chmod(EXECUTABLE)
    database = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    environ = {
        **os.environ,
        "PGHOST": database["host"],
        "PGPORT": database["port"],
        "POSTGRES_DB": database["dbname"],
        "POSTGRES_USER": database["user"],
    }
    subprocess.run([str(script)], check=True, env=environ, timeout=PATIENCE_SECONDS)


def name_of(certificate_file: Path) -> str:
    """What the broker calls the bearer of this certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    [name] = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(name.value)


def environment(service: dict[str, Any], folder: Path) -> dict[str, str]:
    """The service's variables, with the host's paths in place of the container's."""
    places = {f"/run/secrets/{name}": str(folder / "private/secrets" / name) for name in service["secrets"]}
    for volume in service.get("volumes", []):
        source, target = volume.split(":")[:2]
        if source.startswith("./"):
            places[target] = str(folder / source)
    assert None not in service["environment"].values(), "would be taken from whoever starts it"
    environ = {name: str(value) for name, value in service["environment"].items()}
    for container_path, host_path in places.items():
        environ = {name: value.replace(container_path, host_path) for name, value in environ.items()}
    return environ


@pytest.fixture(scope="module")
def settings(prepared: Path) -> Settings:
    """The broker's, judged as at its start: the keyset is opened, and the URL parsed."""
    return app.read_settings(environment(services(VARIABLES)["broker"], prepared))


def test_prepared_host_is_one_that_a_broker_starts_on(settings: Settings) -> None:
    """Whoever follows the guide is not to meet a setting that the broker refuses."""
    [envoy_app] = settings.envoy_apps()
    assert envoy_app.client_secret.reveal() == CLIENT_SECRET
    assert not settings.grpc_address.is_loopback
    assert settings.operations_address is not None
    assert settings.audit_log is not None
    assert settings.audit_log.startswith("/var/log/token-broker/")


async def test_policy_of_the_first_day_gives_the_first_caller_its_tokens(prepared: Path) -> None:
    """A policy that can't be read would end the broker; one of another name would give nobody anything."""
    policy = str(prepared / "private/policy/policy.cedar")
    caller = name_of(prepared / "private/callers/checkout/tls.crt")
    asked = ("--policy", policy, "--caller", caller, "--operation", "GetToken", "--install", "4242/1")
    explained = await token_broker("policy", "explain", *asked)
    assert (explained.code, explained.out) == (0, "allowed by checkout-tokens\n")


def test_certificates_are_of_the_authority_that_is_believed(prepared: Path, settings: Settings) -> None:
    """Else no caller would come in, and none would believe the broker."""
    authority = x509.load_pem_x509_certificate(Path(settings.tls_client_ca_file or "").read_bytes())
    caller = prepared / "private/callers/checkout"
    for path in (Path(settings.tls_certificate_file or ""), caller / "tls.crt"):
        x509.load_pem_x509_certificate(path.read_bytes()).verify_directly_issued_by(authority)
    assert (caller / "ca.crt").read_bytes() == Path(settings.tls_client_ca_file or "").read_bytes()


def test_secrets_are_closed_to_the_host_and_open_to_containers(prepared: Path) -> None:
    """A mount begins below the closed folder, so the containers' users can read what the host's others can't reach."""
    private = prepared / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    for path in (*(private / "secrets").iterdir(), *(private / "tls").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    for path in (private / "secrets", private / "tls", private / "policy"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert stat.S_IMODE((private / "authority").stat().st_mode) == 0o700


def test_second_preparation_changes_nothing(prepared: Path) -> None:
    """A keyset that is made anew would be the end of every stored token."""
    before = {path: path.read_bytes() for path in (prepared / "private").rglob("*") if path.is_file()}
    done = prepare(prepared)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in (prepared / "private").rglob("*") if path.is_file()} == before


def test_one_more_caller_has_a_name_of_its_own(prepared: Path) -> None:
    """The policy tells callers apart by their certificates' names."""
    done = prepare(prepared, "caller", "billing")
    assert done.returncode == 0, done.stderr
    assert name_of(prepared / "private/callers/billing/tls.crt") == "spiffe://token-broker/billing"


async def test_serving_role_of_a_new_database_can_be_let_in(
    empty_database: str, prepared: Path, tmp_path: Path
) -> None:
    """The script runs once in a volume's life: a slip in it is a broker that never gets in."""
    dsn = direct_url(empty_database)
    try:
        make_roles(dsn, prepared, tmp_path / "roles.sh")
        command = services(VARIABLES)["migrate"]["command"]
        migrated = await token_broker(*command, env={"TOKEN_BROKER_DATABASE_URL": dsn})
        assert migrated.code == 0, migrated.err
        with psycopg.connect(dsn) as connection:
            asked = (
                "SELECT rolcanlogin, rolsuper, rolpassword LIKE 'SCRAM-%%' FROM pg_authid WHERE rolname = %s"
            )
            assert connection.execute(asked, [SERVING]).fetchone() == (True, False, True)
            connection.execute(f"SET ROLE {SERVING}")
            connection.execute("SELECT FROM token_broker.installs")
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute(f"DROP OWNED BY {SERVING}")
            connection.execute(f"DROP ROLE {SERVING}")


def test_without_the_client_secret_nothing_is_made(tmp_path: Path) -> None:
    """Half a preparation looks like a whole one; the message says where the secret goes."""
    folder = fresh_folder(tmp_path / "compose")
    done = prepare(folder)
    assert done.returncode == 1
    assert "private/secrets/client-secret" in done.stderr
    assert not list((folder / "private/secrets").iterdir())


def test_app_must_be_named() -> None:
    """A broker without an app refuses to start; compose says it before, in words."""
    with pytest.raises(VariableMissing, match=r"ENVOY_PLUGIN_ID: set it in \.env"):
        compose_text({})


def test_broker_is_as_closed_as_a_pod() -> None:
    """Nothing to write to but the record, no capability, no root; and the time that its drain takes."""
    of_file = services(VARIABLES)
    for name in ("broker", "migrate"):
        assert of_file[name]["read_only"] is True
        assert of_file[name]["cap_drop"] == ["ALL"]
    assert of_file["broker"]["user"] == "65532:65532"
    assert "owner-database-url" not in of_file["broker"]["secrets"]
    grace_seconds = int(of_file["broker"]["stop_grace_period"].removesuffix("s"))
    defaults = [Settings.model_fields[name].default for name in ("lame_duck_seconds", "drain_seconds")]
    assert grace_seconds >= sum(defaults, CLOSING).total_seconds()


def test_only_this_host_is_served_unless_it_is_said() -> None:
    """Whoever tries it out is not to open ports to the network."""
    for name, service in services(VARIABLES).items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert services({**VARIABLES, "BIND": "0.0.0.0"})["broker"]["ports"][0].startswith("0.0.0.0:50051")
