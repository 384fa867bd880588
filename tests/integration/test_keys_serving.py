"""F40 with whole brokers: a keyset that does not open what is stored is not ready, and writes over nothing."""

from http import HTTPStatus
from pathlib import Path
from typing import Final

import psycopg
import pytest

from broker.adapters.keys import generate_keyset, keys_of, with_new_key, with_newest_primary
from broker.domain.secret import Secret
from tests.eventually import eventually
from tests.integration.refusals import refusal_of
from tests.integration.served_broker import KEYSET, rows_of, served_broker, settings_for
from tests.integration.served_envoy import ServedEnvoy
from tests.processes import token_broker

MARK: Final = "do-not-show-me"


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "garbled", "truncated", "unreadable", "no file", "unwrapped"]
)
async def test_f40_impossible_keyset_ends_serve_before_it_listens(
    kind: str, tmp_path: Path, database: str
) -> None:
    """By the setting's name and what is wrong with it, and without showing any of it."""
    environ = settings_for(database, "http://127.0.0.1:1")
    keyset = environ.pop("TOKEN_BROKER_KEYSET")
    file = tmp_path / MARK
    said = {
        "missing": "TOKEN_BROKER_KEYSET must be set",
        "empty": "TOKEN_BROKER_KEYSET: must not be empty",
        "garbled": "TOKEN_BROKER_KEYSET is no Tink keyset",
        "truncated": "TOKEN_BROKER_KEYSET is no Tink keyset",
        "unreadable": "TOKEN_BROKER_KEYSET_FILE: the file can't be read: is no UTF-8 text",
        "no file": "TOKEN_BROKER_KEYSET_FILE: the file can't be read: No such file",
        "unwrapped": "TOKEN_BROKER_KEYSET needs the packages of gcpkms",
    }[kind]
    match kind:
        case "empty":
            environ["TOKEN_BROKER_KEYSET"] = ""
        case "garbled":
            environ["TOKEN_BROKER_KEYSET"] = MARK
        case "truncated":
            environ["TOKEN_BROKER_KEYSET"] = keyset[:-40]
        case "unreadable":
            file.write_bytes(b"\xff")
            environ["TOKEN_BROKER_KEYSET_FILE"] = str(file)
        case "no file":
            environ["TOKEN_BROKER_KEYSET_FILE"] = str(file)
        case "unwrapped":
            environ["TOKEN_BROKER_KEYSET"] = keyset
            environ["TOKEN_BROKER_KEYSET_KMS_URI"] = (
                "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k"
            )
    ended = await token_broker("serve", env=environ)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert MARK not in ended.err
    assert "Traceback" not in ended.err


def in_doubt(database: str) -> None:
    """An attempt's outcome is unknown: the next one mints, without a look at what stands there."""
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE token_broker.installs SET in_doubt = true, due_at = clock_timestamp()")


async def test_f40_broker_with_another_keyset_is_not_ready_and_writes_over_nothing(
    simulated_envoy: ServedEnvoy, database: str
) -> None:
    """Neither its scheduler, nor a caller, nor a webhook: a mint would void the pair that the right keyset opens."""
    (missing,) = keys_of(Secret(KEYSET))
    async with served_broker(simulated_envoy, database) as right:
        await right.installed()
    in_doubt(database)
    before = rows_of(database)
    called = await simulated_envoy.ledger()
    async with served_broker(
        simulated_envoy, database, ready=False, KEYSET=generate_keyset().reveal()
    ) as wrong:

        async def names_the_missing_key() -> bool:
            readiness = await wrong.http.get("/readyz")
            return readiness.status_code == 503 and f"key {missing.key_id} is not in it" in readiness.text

        await eventually(names_the_missing_key)
        for call in (wrong.get_token(), wrong.refresh()):
            assert (await refusal_of(call)).reason in {"INTERNAL", "STORE_UNAVAILABLE"}
        assert (await wrong.install())["status"] == HTTPStatus.SERVICE_UNAVAILABLE
    assert rows_of(database) == before
    assert await simulated_envoy.ledger() == called
    async with served_broker(simulated_envoy, database) as right:
        assert (await right.get_token()).generation >= 1


async def test_f41_brokers_of_two_steps_of_a_rotation_serve_the_same_installs(
    simulated_envoy: ServedEnvoy, database: str
) -> None:
    """The old release of the keyset and the new one, both ready, each refreshing what the other reads."""
    added, _ = with_new_key(Secret(KEYSET))
    promoted, _ = with_newest_primary(added)
    async with (
        served_broker(simulated_envoy, database, KEYSET=added.reveal()) as old,
        served_broker(simulated_envoy, database, KEYSET=promoted.reveal()) as new,
    ):
        await old.installed()
        for generation, broker in enumerate((new, old, new), start=2):
            assert (await broker.refresh()).generation == generation
