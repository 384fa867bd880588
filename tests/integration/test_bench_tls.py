"""The load generator and the floors through TLS: who shows no certificate, or a wrong one, must not look fast."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.floor import Kind
from bench.floors import floor
from bench.load import LoadFailedError, Pace, Target, drive, write_messages
from bench.scenarios.get_token_secured import FSYNC, MUTUAL_TLS
from bench.secured import Trail
from bench.tls import IN_THE_CLEAR, Door, Tls
from broker.sandbox.secured import secure
from tokenbroker.v1.token_broker_pb2 import GetTokenRequest

REPLY_BYTES = 280
BRIEF = Pace(seconds=0.2, warm_up_seconds=0.05, connections=2, in_flight=4)
BEARING = (("authorization", "Bearer " + "t" * 300),)


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    """One request."""
    return write_messages(tmp_path / "messages.bin", [GetTokenRequest(install_id="1").SerializeToString()])


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Those of a server and of its callers."""
    folder = tmp_path / "certificates"
    secure(folder)
    return folder


@pytest.mark.parametrize("kind", [Kind.AIO_UVLOOP, Kind.SYNC])
@pytest.mark.parametrize("mutual", [True, False], ids=["mutual", "server alone"])
async def test_a_floor_behind_tls_counts_as_the_generator_does(
    kind: Kind, *, mutual: bool, certificates: Path, messages: Path
) -> None:
    """The floor of the secured scenario is worth no more than its count."""
    door = Door(Tls(certificates, mutual), metadata=() if mutual else BEARING)
    async with floor(kind, messages=messages, reply_bytes=REPLY_BYTES, core=None, door=door) as contestant:
        assert contestant.count is not None
        load = await drive(contestant.target, BRIEF, core=None)
        counted = await contestant.count()

    assert load.errors == {}
    assert counted == load.calls_in_all >= load.calls > 0


@pytest.mark.parametrize("mutual", [False, None], ids=["without a certificate", "in the clear"])
async def test_a_floor_that_asks_for_certificates_serves_nobody_else(
    *, mutual: bool | None, certificates: Path, messages: Path
) -> None:
    """Otherwise mutual TLS would be measured without its handshake's check, or without TLS."""
    asking = Door(Tls(certificates, mutual=True))
    other = IN_THE_CLEAR if mutual is None else Door(Tls(certificates, mutual))
    async with floor(
        Kind.SYNC, messages=messages, reply_bytes=REPLY_BYTES, core=None, door=asking
    ) as contestant:
        its = contestant.target
        target = Target(its.port, its.pid, its.messages, its.reply_bytes, door=other)
        with pytest.raises(LoadFailedError, match="no call was answered well"):
            await drive(target, BRIEF, core=None)


async def test_a_server_with_another_authoritys_certificate_is_not_measured(
    certificates: Path, messages: Path, tmp_path: Path
) -> None:
    """The generator verifies, as a caller does."""
    secure(tmp_path / "others")
    door = Door(Tls(certificates, mutual=False))
    async with floor(
        Kind.SYNC, messages=messages, reply_bytes=REPLY_BYTES, core=None, door=door
    ) as contestant:
        its = contestant.target
        stranger = Door(Tls(tmp_path / "others", mutual=False))
        target = Target(its.port, its.pid, its.messages, its.reply_bytes, door=stranger)
        with pytest.raises(LoadFailedError, match="ended with 1"):
            await drive(target, BRIEF, core=None)


async def test_a_trail_is_counted_line_by_line_as_it_grows(tmp_path: Path) -> None:
    """Refusals and what the chain itself writes are no tokens handed out."""
    path = tmp_path / "trail.jsonl"
    path.write_text('{"kind":"opened"}\n{"kind":"record","outcome":"OK"}\n')
    trail = Trail(path)
    assert await trail.count() == 1
    with path.open("a") as file:
        file.write('{"kind":"record","outcome":"DENIED"}\n{"kind":"record","outcome":"OK"}\n')
    assert await trail.count() == 2


def test_the_secured_scenario_reports_each_way_in(tmp_path: Path) -> None:
    """Mutual TLS and bearer tokens, each against a floor behind the same door; every token is on record."""
    output = tmp_path / "bench.json"
    arguments = ["--quick", "--rounds", "1", "--seconds", "0.1", "--only", "get-token-secured"]

    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--output", str(output)],
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())["scenarios"]["get-token-secured"]
    ways = found["ways"]
    assert set(ways) == {"mutual TLS", "bearer token"}
    ratios = ways[MUTUAL_TLS]["ratios_to_floor"]
    assert ratios[ways[MUTUAL_TLS]["floor"]]["median"] == 1.0
    assert found["everything_on_to_tls_floor"] == ratios["mutual TLS: broker"]
    assert f"mutual TLS: {FSYNC}" in ratios
    measured = {name for way in ways.values() for name in way["ratios_to_floor"]}
    assert measured == set(found["at_saturation"]) == set(found["paced"]["contestants"])
    assert not any(series["rounds"][0]["errors"] for series in found["at_saturation"].values())
