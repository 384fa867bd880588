"""token, installs, sandbox install, keys, version: real processes against a running broker."""

import asyncio
import json
import re

import pytest

from broker import __version__
from tests.integration.served_broker import ServedBroker, envoy_url, served_broker
from tests.integration.served_envoy import OTHER_APP, ServedEnvoy
from tests.processes import Finished, token_broker

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def call(broker: ServedBroker, *arguments: str) -> Finished:
    """A client command that finds its broker by the environment."""
    return await token_broker(*arguments, env={"TOKEN_BROKER_ADDRESS": broker.grpc_address})


async def test_token_get_prints_the_token_and_nothing_else(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """It stands in scripts: TOKEN=$(token-broker token get 1000000)."""
    await shared_broker.installed(install_id)
    token = await shared_broker.get_token(install_id)
    plain, as_json = await asyncio.gather(
        call(shared_broker, "token", "get", install_id),
        call(shared_broker, "token", "get", install_id, "--json", "--min-ttl", "60", "--plugin-id", "4242"),
    )
    assert plain == Finished(0, f"{token.access_token}\n", "")
    document = json.loads(as_json.out)
    assert (as_json.code, as_json.err) == (0, "")
    assert document["access_token"] == token.access_token
    assert (document["token_type"], document["install_id"]) == ("Bearer", install_id)
    assert set(document) == {
        "access_token",
        "token_type",
        "expires_in",
        "expire_time",
        "generation",
        "plugin_id",
        "install_id",
        "company_id",
    }


async def test_refused_call_exits_with_1_and_the_reason(shared_broker: ServedBroker) -> None:
    """Stdout stays empty, so that no script takes an error for a token."""
    unknown, bad_field, bad_ttl = await asyncio.gather(
        call(shared_broker, "token", "get", "nobody"),
        call(shared_broker, "installs", "get", "é"),
        call(shared_broker, "token", "get", "nobody", "--min-ttl", "-1"),
    )
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("INSTALL_NOT_FOUND: ")
    assert (bad_field.code, bad_field.out) == (1, "")
    assert bad_field.err.startswith("INVALID_FIELD: install_id ")
    assert (bad_ttl.code, bad_ttl.out) == (1, "")
    assert bad_ttl.err.startswith("INVALID_FIELD: min_ttl ")


async def test_retryable_error_says_when(shared_envoy: ServedEnvoy, database: str, install_id: str) -> None:
    """A person waits that long; a script reads it."""
    async with served_broker(shared_envoy, database) as broker:
        await broker.installed(install_id)
        await broker.envoy.behave(install_id, status=429, retry_after_seconds=7)
        refused = await call(broker, "installs", "refresh", install_id)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("PROVIDER_UNAVAILABLE: ")
        assert refused.err.rstrip().endswith("(retry in 7.0 s)")


async def test_no_broker_at_the_address_is_said() -> None:
    """And what to do; not a page of gRPC's own."""
    refused = await token_broker("installs", "list", "--address", "127.0.0.1:1")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("no broker answers at 127.0.0.1:1; start one with `make run`")
    assert len(refused.err.splitlines()) == 1


async def test_installs_are_listed_by_filter(shared_broker: ServedBroker, install_id: str) -> None:
    """A line each for people, a JSON object each for programs."""
    company = f"company-{install_id}"
    for each in ("a", "b"):
        await shared_broker.installed(f"{install_id}{each}", company_id=company)
    listed, as_json, none = await asyncio.gather(
        call(shared_broker, "installs", "list", "--company", company, "--state", "active"),
        call(shared_broker, "installs", "list", "--company", company, "--json"),
        call(shared_broker, "installs", "list", "--company", company, "--state", "UNINSTALLED"),
    )
    header, *lines = [columns_of(line) for line in listed.out.splitlines()]
    assert header == ["APP", "INSTALL", "COMPANY", "STATE", "GENERATION", "EXPIRES IN", "FAILING"]
    assert lines == [
        ["4242", f"{install_id}{each}", company, "ACTIVE", "1", "23 h 59 min", "-"] for each in ("a", "b")
    ]
    assert [json.loads(line)["install_id"] for line in as_json.out.splitlines()] == [
        f"{install_id}{each}" for each in ("a", "b")
    ]
    assert none == Finished(0, "", "no installs\n")


async def test_failing_installs_are_listed_with_their_reasons(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """Which, and why: what an engineer asks first at night."""
    company = f"company-{install_id}"
    for each in ("fine", "failing"):
        await shared_broker.installed(f"{install_id}-{each}", company_id=company)
    failing = f"{install_id}-failing"
    await shared_broker.envoy.behave(failing, cut="after_processing")
    refused = await call(shared_broker, "installs", "refresh", failing)
    assert (refused.code, refused.out) == (1, "")
    listed = await call(shared_broker, "installs", "list", "--failing", "--company", company)
    shown = await call(shared_broker, "installs", "get", failing)
    await shared_broker.envoy.behave(failing)
    _, line = [columns_of(line) for line in listed.out.splitlines()]
    assert line[1] == failing
    assert line[-1].startswith("protocol_error")
    facts = dict(columns_of(line)[1:3] for line in shown.out.split("\n\n", maxsplit=1)[0].splitlines()[1:])
    assert facts["failing"].startswith("protocol_error")
    assert facts["in doubt"]
    assert facts["tried again"].startswith("not before ")


def columns_of(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in re.split(r" {2,}", line)]


async def test_install_is_shown_with_its_last_attempts(shared_broker: ServedBroker, install_id: str) -> None:
    """What was tried, and how it ended, the newest first: an operator's whole picture, on one screen."""
    await shared_broker.installed(install_id)
    refreshed = await call(shared_broker, "installs", "refresh", install_id)
    assert (refreshed.code, refreshed.err) == (0, "")
    title, *lines = refreshed.out.splitlines()
    assert title == f"Install {install_id} of app 4242"
    assert "  generation     2" in lines
    assert "failing" not in refreshed.out
    header, *attempts = [columns_of(line)[1:] for line in lines[-3:]]
    assert header == ["BEGAN", "ATTEMPT", "PURPOSE", "ENDING", "TOOK", "TRACE ID", "BY"]
    assert [attempt[1:4] for attempt in attempts] == [
        ["2", "forced", "refreshed"],
        ["1", "exchange", "minted"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", attempt[0]) for attempt in attempts)
    assert all(re.fullmatch(r"\d+\.\d\d s", attempt[4]) for attempt in attempts)


async def test_install_is_refreshed_deleted_and_shown(shared_broker: ServedBroker, install_id: str) -> None:
    """An operator's day, in JSON, and never a token in it."""
    await shared_broker.installed(install_id)
    token = (await shared_broker.get_token(install_id)).access_token
    refreshed = await call(shared_broker, "installs", "refresh", install_id, "--json")
    assert json.loads(refreshed.out)["generation"] == "2"
    deleted = await call(shared_broker, "installs", "delete", install_id, "--json")
    shown = await call(shared_broker, "installs", "get", install_id, "--json")
    assert [each["attempt"] for each in json.loads(shown.out)["recent_attempts"]] == ["2", "1"]
    for tombstone in (deleted, shown):
        document = json.loads(tombstone.out)
        assert (document["install_id"], document["state"]) == (install_id, "INSTALL_STATE_UNINSTALLED")
    assert all((each.code, each.err) == (0, "") for each in (refreshed, deleted, shown))
    assert token not in refreshed.out + deleted.out + shown.out


async def test_list_of_many_pages_is_whole(shared_broker: ServedBroker, install_id: str) -> None:
    """The command follows the page tokens by itself."""
    ids = [f"{install_id}-{number}" for number in range(100, 160)]
    await asyncio.gather(*(shared_broker.installed(each, company_id=install_id) for each in ids))
    listed = await call(shared_broker, "installs", "list", "--company", install_id, "--json")
    assert [json.loads(line)["install_id"] for line in listed.out.splitlines()] == ids


async def test_unknown_state_is_a_usage_error() -> None:
    """With the states that there are."""
    refused = await token_broker("installs", "list", "--state", "asleep")
    assert (refused.code, refused.out) == (2, "")
    assert "REAUTHORIZATION_REQUIRED" in refused.err


def sandbox_install(broker: ServedBroker, install_id: str) -> list[str]:
    """The command that has a simulated Envoy install the app."""
    return [
        "sandbox",
        "install",
        f"--install-id={install_id}",
        f"--company=company-{install_id}",
        f"--envoy={envoy_url(broker.envoy)}",
        f"--broker={broker.http.base_url}".rstrip("/"),
    ]


async def test_sandbox_install_sends_a_signed_webhook(shared_broker: ServedBroker, install_id: str) -> None:
    """What a newcomer does second."""
    done = await token_broker(*sandbox_install(shared_broker, install_id))
    assert (done.code, done.err) == (0, "")
    assert install_id in done.out
    assert "200" in done.out
    assert (await shared_broker.get_token(install_id)).company_id == f"company-{install_id}"


async def test_sandbox_install_fails_when_the_broker_refuses(
    shared_broker: ServedBroker, install_id: str
) -> None:
    """A broker of another app has no such address."""
    async with served_broker(shared_broker.envoy, shared_broker.database, (OTHER_APP,)) as stranger:
        refused, nobody = await asyncio.gather(
            token_broker(*sandbox_install(stranger, install_id)),
            token_broker(*sandbox_install(shared_broker, install_id), "--envoy=http://127.0.0.1:1"),
        )
    assert refused.code == 1
    assert "404" in refused.out + refused.err
    assert (nobody.code, nobody.out) == (1, "")
    assert "http://127.0.0.1:1" in nobody.err
    assert len(nobody.err.splitlines()) == 1


async def test_keys_and_version_need_nothing() -> None:
    """No settings, no database, no network."""
    first, second, version, nothing = await asyncio.gather(
        token_broker("keys", "generate"),
        token_broker("keys", "generate"),
        token_broker("version"),
        token_broker(),
    )
    assert json.loads(first.out)["key"]
    assert first.out != second.out
    assert version == Finished(0, f"{__version__}\n", "")
    assert "serve" in nothing.out + nothing.err
