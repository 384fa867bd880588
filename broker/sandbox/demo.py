"""The demo: an install at (simulated) Envoy turns into a token that a gRPC client reads."""

from dataclasses import dataclass
from typing import Any, Final

import grpc
import httpx

from broker.domain.secret import Secret
from broker.sandbox.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from broker.sandbox.progress import Progress
from broker.sandbox.secured import OPERATOR, SERVICE
from broker.sandbox.stack import PLUGIN_ID, Stack
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc, token_broker_pb2, token_broker_pb2_grpc

# The ids of the user's own sample webhooks.
INSTALL_ID: Final = "1000000"
COMPANY_ID: Final = "100000"
DEADLINE_SECONDS: Final = 60
STATE_PREFIX: Final = "INSTALL_STATE_"


class DemoFailed(Exception):
    """A step did not do what it shows."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo saw."""

    install: installs_pb2.Install
    token: token_broker_pb2.GetTokenResponse

    def as_json(self, stack: Stack, progress: Progress) -> dict[str, Any]:
        """The contract of `make run ARGS="--once --json"`."""
        return {
            "install_id": self.token.install_id,
            "plugin_id": self.token.plugin_id,
            "company_id": self.token.company_id,
            "state": installs_pb2.InstallState.Name(self.install.state).removeprefix(STATE_PREFIX),
            "generation": self.token.generation,
            "token_type": self.token.token_type,
            "expires_in": self.token.expires_in.seconds,
            "access_token_masked": Secret(self.token.access_token).masked(),
            "grpc": stack.grpc,
            "http": stack.http,
            "envoy": stack.envoy_url,
            "timings_ms": progress.timings_ms,
        }


async def send_install(envoy_url: str, webhook_url: str, install_id: str, company_id: str) -> dict[str, Any]:
    """Have the simulated Envoy install the app for a company, and send the signed route webhook.

    Raises:
        httpx.HTTPError: it does not answer, or refuses.
    """
    body = {"install_id": install_id, "company_id": company_id, "webhook_url": webhook_url}
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_SECONDS) as client:
        response = await client.post(f"{envoy_url}/_simulator/installs", json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
    return answer


async def run_demo(stack: Stack, envoy_url: str, progress: Progress) -> DemoResult:
    """Install one app and read its token twice: the first call may look into the database, the second not."""
    with progress.step("webhook") as step:
        webhook_url = f"{stack.http}/envoy/webhooks/{PLUGIN_ID}"
        answer = await send_install(envoy_url, webhook_url, INSTALL_ID, COMPANY_ID)
        status = answer["webhook"]["status"]
        if status != httpx.codes.OK:
            raise DemoFailed(f"the broker answered {status} to the route webhook")
        step.says(
            f"Envoy sent a signed route webhook for install {INSTALL_ID}; "
            f"the broker exchanged it and answered {status}"
        )
    async with _channel(stack, SERVICE) as channel, _channel(stack, OPERATOR) as operators_channel:
        token_broker = token_broker_pb2_grpc.TokenBrokerStub(channel)
        installs = installs_pb2_grpc.InstallsStub(operators_channel)
        request = token_broker_pb2.GetTokenRequest(install_id=INSTALL_ID)
        with progress.step("get_token") as step:
            token = await token_broker.GetToken(request, timeout=DEADLINE_SECONDS)
            step.says(
                f"GetToken by gRPC: {token.token_type} {Secret(token.access_token).masked()}, "
                f"valid for {token.expires_in.seconds:,} s, generation {token.generation}"
            )
        with progress.step("again") as step:
            await token_broker.GetToken(request, timeout=DEADLINE_SECONDS)
            step.says("GetToken once more, from memory")
        reply = await installs.GetInstall(
            installs_pb2.GetInstallRequest(install_id=INSTALL_ID), timeout=DEADLINE_SECONDS
        )
    progress.total()
    return DemoResult(reply.install, token)


def _channel(stack: Stack, caller: str) -> grpc.aio.Channel:
    """To the broker, as that caller where the broker asks who calls."""
    if stack.secured is None:
        return grpc.aio.insecure_channel(stack.grpc)
    ca, key, certificate = (
        (stack.secured / caller / name).read_bytes() for name in (CA_FILE, KEY_FILE, CERTIFICATE_FILE)
    )
    return grpc.aio.secure_channel(stack.grpc, grpc.ssl_channel_credentials(ca, key, certificate))
