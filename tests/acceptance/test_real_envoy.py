"""The same command with real credentials: Envoy itself, for which a simulated one on loopback stands in here."""

from pathlib import Path

import pytest

from tests.acceptance.sandboxes import left_in, sandbox
from tests.integration.served_broker import envoy_url
from tests.integration.served_envoy import APP, ServedEnvoy
from tests.processes import token_broker


def credentials(envoy: ServedEnvoy) -> dict[str, str]:
    """What a developer exports before `make run`."""
    return {
        "TOKEN_BROKER_ENVOY_CLIENT_ID": APP.client_id,
        "TOKEN_BROKER_ENVOY_CLIENT_SECRET": APP.client_secret.reveal(),
        "TOKEN_BROKER_ENVOY_TOKEN_URL": f"{envoy_url(envoy)}/oauth2/token",
    }


async def test_real_credentials_use_the_real_envoy_and_say_so(temporary: Path, envoy: ServedEnvoy) -> None:
    """No simulated Envoy runs, and a signed webhook from outside becomes a token."""
    async with sandbox(temporary, env=credentials(envoy)) as up:
        assert "REAL Envoy" in await up.process.out.line("  envoy  ")
        assert up.envoy == ""
        validation_url = (await up.process.out.line("validation URL")).split()[-1]
        assert validation_url == f"{up.http}/envoy/webhooks"
        delivered = await envoy.install("1000000", webhook_url=validation_url, kind="validation")
        assert delivered["webhook"]["status"] == 200
        token = await token_broker("token", "get", "1000000", "--address", up.grpc)
        assert (token.code, token.err) == (0, "")
        assert await envoy.is_alive(token.out.strip())
        assert "simulated" not in (await up.process.out.line("Starting"))


@pytest.mark.parametrize("from_file", [False, True])
async def test_once_with_real_credentials_says_why_not(
    temporary: Path, tmp_path: Path, envoy: ServedEnvoy, *, from_file: bool
) -> None:
    """Nobody can make the real Envoy send a webhook from here; a secret in a file counts as set."""
    env = {**credentials(envoy), "TMPDIR": str(temporary)}
    if from_file:
        secret = tmp_path / "client-secret"
        secret.write_text(env.pop("TOKEN_BROKER_ENVOY_CLIENT_SECRET"))
        env["TOKEN_BROKER_ENVOY_CLIENT_SECRET_FILE"] = str(secret)
    ended = await token_broker("sandbox", "run", "--once", "--json", "--ports=auto", env=env)
    assert (ended.code, ended.out) == (1, "")
    assert "--once" in ended.err
    assert APP.client_secret.reveal() not in ended.err
    assert left_in(temporary) == []
