"""`token-broker keys …` as real processes: a rotation as an operator does it, and what is refused on the way."""

import asyncio
import json
import signal
import stat
from pathlib import Path
from typing import Any, Final

import pytest

from broker.adapters.keys import TinkCipher, generate_keyset, keys_of, read_keyset_file
from broker.domain.secret import Secret
from tests.eventually import eventually
from tests.integration.sealed_installs import damage, installed, replica, rotation, sealed_by, stored
from tests.processes import TOKEN_BROKER, Finished, running, token_broker

PRIVATE: Final = 0o600


@pytest.fixture
def keyset_file(tmp_path: Path) -> Path:
    """A file with a keyset of one key."""
    file = tmp_path / "keyset.json"
    file.write_text(generate_keyset().reveal())
    return file


def content_of(path: Path) -> str:
    """What is in it."""
    return path.read_text()


def mode_of(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.stat().st_mode)


async def keys(*arguments: str | Path, database: str = "", **variables: str) -> Finished:
    """`token-broker keys …`, which must show no key material."""
    environ = {"TOKEN_BROKER_DATABASE_URL": database} if database else {}
    ended = await token_broker("keys", *map(str, arguments), env={**environ, **variables})
    assert "Traceback" not in ended.err
    assert '"value"' not in ended.out + ended.err
    return ended


async def status(file: Path, database: str) -> dict[int | None, dict[str, Any]]:
    """`keys status --json`, by the ids."""
    shown = await keys("status", file, "--json", database=database)
    assert (shown.code, shown.err) == (0, "")
    return {key["key_id"]: key for key in json.loads(shown.out)["keys"]}


async def test_f41_operator_s_rotation_from_the_first_key_to_the_next(
    keyset_file: Path, database: str
) -> None:
    """The page's own steps; what each says is what the operator does next."""
    first = read_keyset_file(keyset_file)
    (old,) = keys_of(first)
    install_keys = await installed(database, first, 3)

    added = await keys("rotate", keyset_file, "--add")
    assert (added.code, added.out) == (0, "")
    new_id = keys_of(read_keyset_file(keyset_file))[-1].key_id
    assert f"added key {new_id}" in added.err
    promoted = await keys("rotate", "--promote", keyset_file)
    assert f"key {new_id} seals from now on" in promoted.err

    too_early = await keys("rotate", keyset_file, "--retire", database=database)
    assert (too_early.code, too_early.out) == (1, "")
    assert f"key {old.key_id} has sealed 3 access and 3 refresh tokens" in too_early.err
    assert (await status(keyset_file, database))[old.key_id]["refresh_tokens"] == 3

    resealed = await keys("reseal", keyset_file, database=database)
    assert (resealed.code, resealed.out, resealed.err) == (0, "", "3 of 3 installs sealed anew\n")
    assert await status(keyset_file, database) == {
        old.key_id: {
            "key_id": old.key_id,
            "in_keyset": True,
            "primary": False,
            "enabled": True,
            "access_tokens": 0,
            "refresh_tokens": 0,
        },
        new_id: {
            "key_id": new_id,
            "in_keyset": True,
            "primary": True,
            "enabled": True,
            "access_tokens": 3,
            "refresh_tokens": 3,
        },
    }

    retired = await keys("rotate", keyset_file, "--retire", database=database)
    assert (retired.code, f"removed key {old.key_id}" in retired.err) == (0, True)
    assert [key.key_id for key in keys_of(read_keyset_file(keyset_file))] == [new_id]
    assert mode_of(keyset_file) == PRIVATE
    async with replica(database, read_keyset_file(keyset_file)) as broker:
        assert [await broker.opens(key) for key in install_keys] == [True] * 3


async def test_status_is_a_table_for_people(keyset_file: Path, database: str) -> None:
    """A key that the keyset lacks stands out: its tokens open nowhere."""
    lost = generate_keyset()
    await installed(database, lost, 1)
    (mine,), (missing,) = keys_of(read_keyset_file(keyset_file)), keys_of(lost)
    shown = await keys("status", database=database, TOKEN_BROKER_KEYSET_FILE=str(keyset_file))
    lines = [line.split("  ") for line in shown.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["key", "role", "access tokens", "refresh tokens"],
        [str(mine.key_id), "primary: seals and opens", "0", "0"],
        [str(missing.key_id), "NOT IN THE KEYSET", "1", "1"],
    ]


async def test_out_leaves_the_old_file_and_overwrites_none(keyset_file: Path, tmp_path: Path) -> None:
    """A secret store's next version is made beside the one that is in force."""
    before, out = content_of(keyset_file), tmp_path / "next.json"
    made = await keys("rotate", keyset_file, "--add", "--out", out)
    assert (made.code, content_of(keyset_file)) == (0, before)
    assert len(keys_of(read_keyset_file(out))) == 2
    assert mode_of(out) == PRIVATE
    again = await keys("rotate", keyset_file, "--add", "--out", out)
    assert (again.code, again.err) == (1, f"{out} can't be written: File exists\n")


async def test_refused_steps_leave_the_file_as_it_is(keyset_file: Path) -> None:
    """Each says what to do first; nothing is half done."""
    before = content_of(keyset_file)
    steps = {
        ("--promote",): "add one first",
        ("--retire",): "nothing to retire",
        (): "say one of",
        ("--add", "--promote"): "say one of",
    }
    refused = await asyncio.gather(*(keys("rotate", keyset_file, *options) for options in steps))
    for ended, said in zip(refused, steps.values(), strict=True):
        assert ended.code != 0
        assert said in ended.err
    assert content_of(keyset_file) == before


async def test_retiring_asks_the_database_unless_forced(keyset_file: Path) -> None:
    """A database that can't be asked is no yes."""
    await keys("rotate", keyset_file, "--add")
    await keys("rotate", keyset_file, "--promote")
    unasked = await keys("rotate", keyset_file, "--retire")
    assert (unasked.code, unasked.err) == (1, "TOKEN_BROKER_DATABASE_URL must be set\n")
    assert len(keys_of(read_keyset_file(keyset_file))) == 2
    forced = await keys("rotate", keyset_file, "--retire", "--force")
    assert (forced.code, len(keys_of(read_keyset_file(keyset_file)))) == (0, 1)


async def test_f41_reseal_that_is_killed_goes_on_when_run_again(tmp_path: Path, database: str) -> None:
    """No row is half done, no row is done twice, and brokers open all of them in between."""
    steps = rotation()
    install_keys = await installed(database, steps.first, 12)
    file = tmp_path / "keyset.json"
    file.write_text(steps.promoted.reveal())
    environ = {"TOKEN_BROKER_DATABASE_URL": database, "TOKEN_BROKER_KEYSET_FILE": str(file)}

    async def some_are_done() -> bool:
        return sealed_by(database, steps.new_id) >= 4

    async with running(TOKEN_BROKER, "keys", "reseal", "--rows-per-second", "5", env=environ) as process:
        await eventually(some_are_done)
        process.signal(signal.SIGKILL)
        await process.end()
    halfway = stored(database)
    done = sealed_by(database, steps.new_id) // 2
    assert 2 <= done < 12
    assert sealed_by(database, steps.new_id) + sealed_by(database, steps.old_id) == 24
    again = await token_broker("keys", "reseal", env=environ)
    assert (again.code, again.err) == (0, f"{12 - done} of 12 installs sealed anew\n")
    assert stored(database)[:done] == halfway[:done]
    async with replica(database, steps.added) as old, replica(database, steps.promoted) as new:
        assert [await old.opens(key) for key in install_keys] == [True] * 12
        assert [await new.opens(key) for key in install_keys] == [True] * 12


async def test_f42_reseal_names_the_rows_that_do_not_open(tmp_path: Path, database: str) -> None:
    """By their ids on stderr, with an exit code that a job notices."""
    steps = rotation()
    _, second = await installed(database, steps.first, 2)
    damage(database, second)
    file = tmp_path / "keyset.json"
    file.write_text(steps.promoted.reveal())
    ended = await keys("reseal", file, database=database)
    assert (ended.code, ended.out) == (1, "")
    assert f"does not open: install {second.install_id} of app {second.plugin_id}\n" in ended.err
    assert "1 of 2 installs sealed anew" in ended.err


async def test_abandon_is_for_keys_that_are_lost(keyset_file: Path, database: str) -> None:
    """It destroys; so a key that is there is refused, and nothing happens unasked."""
    lost = generate_keyset()
    await installed(database, lost, 2)
    (mine,), (gone,) = keys_of(read_keyset_file(keyset_file)), keys_of(lost)
    before = stored(database)
    mistaken = await keys("abandon", str(mine.key_id), keyset_file, "--yes", database=database)
    assert (mistaken.code, "is in the keyset" in mistaken.err) == (1, True)
    unasked = await keys("abandon", str(gone.key_id), keyset_file, database=database)
    assert unasked.code == 1
    impossible = await keys("abandon", "everything", keyset_file, "--yes", database=database)
    assert impossible.code == 2
    assert (await keys("abandon", "broken", keyset_file, "--yes", database=database)).code == 0
    assert stored(database) == before
    done = await keys("abandon", str(gone.key_id), keyset_file, "--yes", database=database)
    assert (done.code, done.err) == (0, "the tokens of 2 installs were destroyed; they are due\n")
    assert [row["refresh_token"] for row in stored(database)] == [None, None]


@pytest.mark.parametrize("command", ["status", "reseal"])
async def test_f40_keyset_that_can_not_be_is_refused_by_its_name(
    command: str, keyset_file: Path, tmp_path: Path, database: str
) -> None:
    """Missing, garbled, truncated: before the database is touched, and without showing any of it."""
    truncated = tmp_path / "truncated.json"
    truncated.write_text(content_of(keyset_file)[:-40])
    missing, garbled, cut, wrapped = await asyncio.gather(
        keys(command, database=database),
        keys(command, database=database, TOKEN_BROKER_KEYSET="garbled"),
        keys(command, truncated, database=database),
        keys(command, keyset_file, "--kms-uri", "azure-kms://one", database=database),
    )
    assert {ended.code for ended in (missing, garbled, cut, wrapped)} == {1}
    assert missing.err == "TOKEN_BROKER_KEYSET must be set\n"
    assert garbled.err.startswith("TOKEN_BROKER_KEYSET is no Tink keyset")
    assert cut.err.startswith(f"{truncated} is no Tink keyset")
    assert "aws-kms://" in wrapped.err


async def test_generated_keyset_is_printed_alone() -> None:
    """It is redirected into a file."""
    made = await token_broker("keys", "generate")
    assert (made.code, made.err) == (0, "")
    assert len(TinkCipher(Secret(made.out)).key_ids) == 1


async def test_database_that_is_away_is_said(keyset_file: Path) -> None:
    """And an operator knows that what was done stays done."""
    away = "postgresql://nobody:do-not-show-me@127.0.0.1:1/nothing?connect_timeout=1"
    bad = await keys("status", keyset_file, database="postgresql//do-not-show-me@")
    assert (bad.code, bad.err) == (
        1,
        "TOKEN_BROKER_DATABASE_URL is no connection string that libpq can read\n",
    )
    refused = await keys("reseal", keyset_file, database=away)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "the database can't be reached; retry later; what is done stays done\n"
