"""`token-broker audit` as real processes: what a reviewer runs, with the files and the public key alone."""

import gzip
from pathlib import Path

import pytest

from tests.integration.audit_trails import KEYS, SECRET, opened, record
from tests.processes import token_broker


@pytest.fixture
async def trail(tmp_path: Path) -> Path:
    """A closed one of ten records."""
    path = tmp_path / "audit.jsonl"
    async with opened(path) as audit:
        for number in range(10):
            await audit.write(record(number))
    return path


def lines_of(trail: Path) -> list[bytes]:
    """Its lines, each with its newline."""
    return trail.read_bytes().splitlines(keepends=True)


def written(path: Path, content: bytes) -> Path:
    """A file of that content."""
    path.write_bytes(content)
    return path


async def test_whole_trail_is_well_in_one_file_or_in_several_packed_or_not(
    trail: Path, tmp_path: Path
) -> None:
    """As logrotate leaves them."""
    lines = lines_of(trail)
    packed = written(tmp_path / "audit.jsonl.1.gz", gzip.compress(b"".join(lines[:5])))
    rest = written(tmp_path / "rest.jsonl", b"".join(lines[5:]))
    for files in ([trail], [packed, rest]):
        found = await token_broker("audit", "verify", *map(str, files), "--public-key", KEYS.public_key)
        assert (found.code, found.err) == (0, "")
        summary, verdict = found.out.splitlines()
        assert summary.startswith(f"chain: {files[0]}:1: ")
        assert "records: 10, lines: 12, closed; of " in summary
        assert verdict == "all is well"


async def test_dropped_line_is_told_with_its_place_and_exit_code(trail: Path) -> None:
    """A nightly job asks for nothing but the exit code; whoever it wakes needs the line."""
    lines = lines_of(trail)
    written(trail, b"".join(lines[:4] + lines[5:]))
    found = await token_broker("audit", "verify", str(trail), "--public-key", KEYS.public_key)
    assert found.code == 1
    assert found.err.splitlines() == [
        f"problem: {trail}:5: lines are missing before it: 1, behind {trail}:4",
        "problems: 1",
    ]
    assert "all is well" not in found.out


async def test_files_that_can_not_be_read_are_not_well(trail: Path, tmp_path: Path) -> None:
    """Neither one that is not there, nor half of a packed one."""
    half = written(tmp_path / "half.gz", gzip.compress(b"".join(lines_of(trail)))[:-40])
    for path in (tmp_path / "absent.jsonl", half):
        found = await token_broker("audit", "verify", str(path), "--public-key", KEYS.public_key)
        assert found.code == 1
        assert "the trail can't be read to its end" in found.err
        assert "Traceback" not in found.err


async def test_impossible_public_key_is_refused(trail: Path) -> None:
    """Before any file is read."""
    found = await token_broker("audit", "verify", str(trail), "--public-key", "no-key")
    assert found.code == 2
    assert "is no public key" in found.err


async def test_public_key_is_printed_without_the_secret(tmp_path: Path) -> None:
    """From the variable or its file; what is printed may be shown to anybody."""
    file = tmp_path / "audit-key"
    file.write_text(SECRET.reveal() + "\n")
    for environ in (
        {"TOKEN_BROKER_AUDIT_KEY": SECRET.reveal()},
        {"TOKEN_BROKER_AUDIT_KEY_FILE": str(file)},
    ):
        printed = await token_broker("audit", "public-key", env=environ)
        assert (printed.code, printed.out, printed.err) == (0, KEYS.public_key + "\n", "")


async def test_public_key_of_no_key_or_of_a_bad_one_says_what_to_do() -> None:
    """And does not show the bad one: it may be one that was mistyped."""
    missing = await token_broker("audit", "public-key")
    assert (missing.code, missing.err) == (1, "TOKEN_BROKER_AUDIT_KEY must be set\n")
    bad = await token_broker("audit", "public-key", env={"TOKEN_BROKER_AUDIT_KEY": SECRET.reveal()[:-1]})
    assert bad.code == 1
    assert bad.err.startswith("TOKEN_BROKER_AUDIT_KEY must be 32 random bytes as base64url")
    assert SECRET.reveal()[:-1] not in bad.err
