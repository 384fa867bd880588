"""`token-broker doctor` as a real process: its exit status, its two forms, its silence about secrets, and its end."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from psycopg.conninfo import make_conninfo

from broker import offline
from broker.config import PREFIX, Settings, variable_of
from broker.doctor import CHECKS
from broker.sandbox.secured import secure
from tests.acceptance.canary.marks import Mark, Search
from tests.databases import direct_url
from tests.processes import Finished, token_broker

CANARY: Final = "canary+&=%-a-secret-of-the-doctor-s"
COLLECTOR_KEY: Final = "canary-otlp-key-of-the-doctor-s"
KEYSET: Final = offline.keysets.generate_keyset().reveal()
HOST: Final = "127.0.0.1"


@pytest.fixture
def envoy_port() -> Iterator[int]:
    """A port where something takes connections, as Envoy's would."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def well_made(database: str, envoy_port: int, tmp_path: Path) -> dict[str, str]:
    """The environment of a broker that asks who calls, and would start."""
    named = {
        "DATABASE_URL": direct_url(database),
        "KEYSET": KEYSET,
        "ENVOY_CLIENT_ID": "client-1",
        "ENVOY_CLIENT_SECRET": CANARY,
        "ENVOY_TOKEN_URL": f"http://{HOST}:{envoy_port}/oauth2/token",
        "GRPC_ADDRESS": f"{HOST}:0",
        "HTTP_ADDRESS": f"{HOST}:0",
    }
    return secure(tmp_path) | {f"{PREFIX}{name}": value for name, value in named.items()}


async def doctor_json(variables: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """The exit status, and the document."""
    ended = await token_broker("doctor", "--json", env=variables)
    assert ended.err == ""
    document: dict[str, Any] = json.loads(ended.out)
    return ended.code, document


async def test_well_made_environment_has_nothing_that_fails(well_made: dict[str, str]) -> None:
    """The whole way, as a pipeline asks before it deploys."""
    code, document = await doctor_json(well_made)
    assert [line for line in document["lines"] if line["weight"] == "FAIL"] == []
    assert (code, document["failed"], document["counts"]["FAIL"]) == (0, False, 0)
    told = list(dict.fromkeys(line["check"] for line in document["lines"]))
    assert told == [check.name for check in CHECKS]
    assert any(line["found"].startswith("core dumps are off") for line in document["lines"])
    assert all(bool(line["remedy"]) == (line["weight"] != "OK") for line in document["lines"])


async def test_anything_that_fails_is_exit_status_1(well_made: dict[str, str], tmp_path: Path) -> None:
    """For a shell; and a person reads the same, line by line."""
    (tmp_path / "policy.cedar").write_text("permit (principal);")
    ended = await token_broker("doctor", env=well_made)
    assert (ended.code, ended.err) == (1, "")
    *lines, _empty, summary = ended.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"OK", "WARN", "FAIL", "→"}
    assert any(line.split()[:2] == ["FAIL", "policy"] for line in lines)
    assert summary.endswith(" 1 FAIL")


async def test_environment_with_nothing_in_it_is_told_what_it_lacks() -> None:
    """The first thing that a newcomer does."""
    ended = await token_broker("doctor")
    assert ended.code == 1
    assert "TOKEN_BROKER_DATABASE_URL must be set" in ended.out
    assert "Traceback" not in ended.out + ended.err


async def test_nothing_is_changed(well_made: dict[str, str], tmp_path: Path) -> None:
    """It may be run beside a broker at work, and as often as one likes."""

    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}

    before = files()
    assert (await token_broker("doctor", env=well_made)).code == 0
    assert files() == before


async def test_what_hangs_is_left_behind(well_made: dict[str, str], tmp_path: Path) -> None:
    """A file that never opens, as of a network file system that is gone: the doctor ends all the same."""
    os.mkfifo(tmp_path / "pipe")
    code, document = await doctor_json(
        well_made | {variable_of("tls_certificate_file"): str(tmp_path / "pipe")}
    )
    (late,) = [line for line in document["lines"] if line["check"] == "certificates"]
    assert (code, late["weight"], late["found"]) == (1, "FAIL", "no answer within 5 s")


async def test_secret_that_hangs_is_left_behind(tmp_path: Path) -> None:
    """Settings are read before everything else: a wait for them without an end would be one for all."""
    os.mkfifo(tmp_path / "pipe")
    code, document = await doctor_json({variable_of("keyset_file"): str(tmp_path / "pipe")})
    late = {line["check"] for line in document["lines"] if line["found"].startswith("no answer within")}
    assert (code, "configuration" in late) == (1, True)


def leaked(ended: Finished, *secrets: str) -> set[str]:
    """Which of the secrets stand in what was printed, in whatever form."""
    return Search(Mark.of(secret[:40], secret) for secret in secrets).found_in(
        (ended.out + ended.err).encode()
    )


async def test_no_secret_is_told_of_good_settings(well_made: dict[str, str], tmp_path: Path) -> None:
    """Its output is pasted into tickets."""
    variables = well_made | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{COLLECTOR_KEY}@{HOST}:1",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={COLLECTOR_KEY}",
        variable_of("database_url"): make_conninfo(well_made[variable_of("database_url")], password=CANARY),
        variable_of("envoy_previous_client_secret"): f"{CANARY}-the-one-before",
    }
    secrets = [
        CANARY,
        COLLECTOR_KEY,
        json.loads(KEYSET)["key"][0]["keyData"]["value"],
        (tmp_path / "audit.key").read_text().strip(),
        (tmp_path / "broker" / "tls.key").read_text().splitlines()[2],
    ]
    for form in ([], ["--json"]):
        ended = await token_broker("doctor", *form, env=variables)
        assert ended.out
        assert leaked(ended, *secrets) == set()


@pytest.mark.parametrize(
    "misplaced",
    [
        CANARY,
        f"postgresql://user:pass@{CANARY}@{HOST}:1/db",
        f"postgresql://{CANARY}:{CANARY}@{HOST}:1/{CANARY}",
        f"postgresql://user:p@{CANARY}.invalid/db",
        f"https://user:{CANARY}@{HOST}:1/{CANARY}",
        f"/{CANARY}",
        f'{{"primaryKeyId": 1, "key": "{CANARY}"}}',
        f'[{{"plugin_id": "{CANARY}", "client_secret": "{CANARY}"}}]',
    ],
)
async def test_no_secret_is_told_wherever_somebody_has_put_it(misplaced: str) -> None:
    """Two lines of a deployment that were mixed up: every setting holds a secret that is not its own."""
    collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL")
    variables = {variable_of(name): misplaced for name in Settings.model_fields}
    ended = await token_broker("doctor", env=variables | dict.fromkeys(collector, misplaced))
    assert ended.code == 1
    assert leaked(ended, CANARY) == set()
    assert "the check broke" not in ended.out
