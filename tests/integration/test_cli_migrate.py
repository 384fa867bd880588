"""`token-broker migrate` as a real process."""

import asyncio
from pathlib import Path
from typing import Final

from tests.processes import token_broker

# Stands in every password, so that a test can look for it.
MARK: Final = "do-not-show-me"


async def test_migrate_twice_has_nothing_to_do(database: str) -> None:
    """It stands in every deployment, before every start."""
    migrated = await token_broker("migrate", env={"TOKEN_BROKER_DATABASE_URL": database})
    assert (migrated.code, migrated.out) == (0, "nothing to do\n")


async def test_migrate_that_can_not_connect_says_so_without_the_password() -> None:
    """What can't be read as a URL is quoted by libpq, password and all."""
    urls = [
        f"postgresql//user:{MARK}@127.0.0.1/db",
        f"postgresql://user:{MARK}@127.0.0.1:1/db",
        f"postgresql://user:{MARK}@127.0.0.1:port/db",
        f"postgresql://user:{MARK}@127.0.0.1/db?no_such_option=1",
    ]
    environs = [{"TOKEN_BROKER_DATABASE_URL": url} for url in urls]
    for refused in await asyncio.gather(*(token_broker("migrate", env=environ) for environ in environs)):
        assert (refused.code, refused.out) == (1, "")
        assert "TOKEN_BROKER_DATABASE_URL" in refused.err
        assert MARK not in refused.err
        assert "Traceback" not in refused.err


async def test_the_url_may_stand_in_a_file(empty_database: str, tmp_path: Path) -> None:
    """A password on the command line shows in the process list; `serve` reads the same file."""
    file = tmp_path / "database-url"
    file.write_text(empty_database + "\n")
    migrated = await token_broker("migrate", env={"TOKEN_BROKER_DATABASE_URL_FILE": str(file)})
    assert (migrated.code, migrated.out.strip()) == (
        0,
        "applied 0001_installs.sql\napplied 0002_protocol.sql\napplied 0003_observability.sql",
    )
