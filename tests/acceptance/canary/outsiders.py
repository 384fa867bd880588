"""What outsiders can do to a broker: callers, good and bad; Envoy, helpful and confused; and who knocks without a name."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import grpc.aio
import httpx
from google.protobuf.duration_pb2 import Duration

from broker.sandbox.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from broker.sandbox.simulated_envoy.webhooks import sign
from tests.acceptance.canary import secrets
from tests.acceptance.canary.answers import Answers
from tests.acceptance.canary.house import Door, House
from tests.integration.served_broker import CALL_SECONDS
from tests.tokens_of_callers import Signer, claims
from tokenbroker.v1 import installs_pb2 as installs
from tokenbroker.v1 import installs_pb2_grpc, token_broker_pb2_grpc
from tokenbroker.v1 import token_broker_pb2 as tokens

Metadata = Sequence[tuple[str, str]]

KNOCK_SECONDS: Final = 2
LIFE_SECONDS: Final = 600
METHOD: Final = "/tokenbroker.v1.TokenBroker/"
# With tokens wherever somebody might put one.
SIDE_FIELDS: Final[Mapping[str, Any]] = {
    "config": {"api_token": secrets.SIDE_FIELD},
    "params": {secrets.SIDE_FIELD: 1, "token": secrets.SIDE_FIELD},
    "payload": {"site": "Berlin", "token": secrets.SIDE_FIELD},
}
BROKEN_WEBHOOKS: Final[Sequence[bytes]] = (
    secrets.SIDE_FIELD.encode(),
    f'{{"meta": "{secrets.SIDE_FIELD}"}}'.encode(),
    f'{{"meta": {{"event": "{secrets.SIDE_FIELD}"}}}}'.encode(),
    f'{{"meta": {{"event": ["{secrets.SIDE_FIELD}"]}}}}'.encode(),
    f'{{"meta": {{"route": "r", "auth": {{"access_token": ["{secrets.SIDE_FIELD}"]}}}}}}'.encode(),
    f'{{"meta": {{"route": "r", "install_id": "{secrets.SIDE_FIELD} \\u00e9", "auth": null}}}}'.encode(),
    f'{{"{secrets.SIDE_FIELD}": 1, "{secrets.SIDE_FIELD}": NaN, '.encode(),
    b'{"meta":' * 100_000 + secrets.SIDE_FIELD.encode(),
    secrets.SIDE_FIELD.encode() * 100_000,
)


@dataclass(frozen=True)
class Caller:
    """Who calls over gRPC. Attributes: metadata: goes with each call."""

    channel: grpc.aio.Channel
    answers: Answers
    metadata: Metadata = ()

    async def get_token(self, install_id: str, **more: Any) -> None:
        """GetToken."""
        stub = token_broker_pb2_grpc.TokenBrokerStub(self.channel)
        request = tokens.GetTokenRequest(install_id=install_id, **more)
        await self.answers.call(stub.GetToken(request, **self._terms()), for_a_token=True)

    async def refresh(self, install_id: str) -> None:
        """RefreshInstall."""
        stub = installs_pb2_grpc.InstallsStub(self.channel)
        request = installs.RefreshInstallRequest(install_id=install_id)
        await self.answers.call(stub.RefreshInstall(request, **self._terms()))

    async def use_tokens(self, install_id: str) -> None:
        """Everything that a user of tokens calls, also wrongly."""
        stub = token_broker_pb2_grpc.TokenBrokerStub(self.channel)
        await self.get_token(install_id)
        await self.get_token(install_id, min_ttl=Duration(seconds=10**9))
        # Too long for an id, and not ASCII.
        for wrong in ("", f"{secrets.STRAY} é", secrets.STRAY * 10):
            await self.get_token(wrong)
            await self.get_token(install_id, plugin_id=wrong or "7")
        one, none = (tokens.GetTokenRequest(install_id=each) for each in (install_id, "unknown"))
        batch = tokens.BatchGetTokensRequest(requests=[one, none])
        await self.answers.call(stub.BatchGetTokens(batch, **self._terms()), for_a_token=True)
        report = tokens.ReportRejectedTokenRequest(install_id=install_id, generation=1)
        await self.answers.call(stub.ReportRejectedToken(report, **self._terms()))
        vouched = tokens.VouchedWebhook(install_id="vouched", company_id="1", access_token=secrets.VOUCHED)
        unsigned = tokens.AcceptRouteWebhookRequest(vouched=vouched)
        await self.answers.call(stub.AcceptRouteWebhook(unsigned, **self._terms()))
        for signature in (secrets.STRAY, ""):
            signed = tokens.SignedWebhook(body=BROKEN_WEBHOOKS[1], signature=signature)
            forged = tokens.AcceptRouteWebhookRequest(signed=signed)
            await self.answers.call(stub.AcceptRouteWebhook(forged, **self._terms()))

    async def operate(self, install_id: str) -> None:
        """Everything that an operator calls, also wrongly."""
        stub = installs_pb2_grpc.InstallsStub(self.channel)
        for asked in (install_id, "unknown", f"{secrets.STRAY} é"):
            request = installs.GetInstallRequest(install_id=asked)
            await self.answers.call(stub.GetInstall(request, **self._terms()))
        for page_token in ("", secrets.STRAY):
            page = installs.ListInstallsRequest(page_token=page_token)
            await self.answers.call(stub.ListInstalls(page, **self._terms()))
        await self.refresh(install_id)

    async def delete(self, install_id: str) -> None:
        """DeleteInstall."""
        stub = installs_pb2_grpc.InstallsStub(self.channel)
        request = installs.DeleteInstallRequest(install_id=install_id)
        await self.answers.call(stub.DeleteInstall(request, **self._terms()))

    async def break_the_protocol(self) -> None:
        """Methods that are not there, a message that is none, and a method that is not built."""
        for method, body in (("Reveal", b""), ("GetToken", b"\xff" + secrets.STRAY.encode())):
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(METHOD + method)
            await self.answers.call(call(body, **self._terms()))
        watch: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = self.channel.stream_unary(
            METHOD + "WatchTokens"
        )
        await self.answers.call(watch(iter([secrets.STRAY.encode()]), **self._terms()))

    def _terms(self) -> dict[str, Any]:
        return {"timeout": CALL_SECONDS, "metadata": (*self.metadata, ("x-api-key", secrets.STRAY))}


def credentials_of(house: House, name: str | None) -> grpc.ChannelCredentials:
    """Of the caller whose certificate stands in the folder of that name; None shows none."""
    ca = (house.folder / "broker" / CA_FILE).read_bytes()
    if name is None:
        return grpc.ssl_channel_credentials(ca)
    key, certificate = ((house.folder / name / file).read_bytes() for file in (KEY_FILE, CERTIFICATE_FILE))
    return grpc.ssl_channel_credentials(ca, key, certificate)


@asynccontextmanager
async def caller(
    house: House, door: Door, answers: Answers, name: str | None = None, metadata: Metadata = ()
) -> AsyncIterator[Caller]:
    """A caller with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(door.grpc, credentials_of(house, name), options) as channel:
        yield Caller(channel, answers, metadata)


def bearing(token: str) -> Metadata:
    """A bearer token, as metadata."""
    return (("authorization", f"Bearer {token}"),)


def good_token(signer: Signer, **changes: object) -> str:
    """What the broker takes, but for the changes; marked inside."""
    now = int(time.time())
    payload = claims(iat=now, nbf=now, exp=now + LIFE_SECONDS, jti=secrets.BEARER) | changes
    return signer.sign(payload).reveal()


def bad_credentials(signer: Signer) -> list[Metadata]:
    """What the broker refuses."""
    stranger = Signer.new(kid="unknown")
    good = good_token(signer)
    header, payload, signature = good.split(".")
    return [
        (),
        *map(bearing, (secrets.STRAY, f"{secrets.STRAY}.{secrets.STRAY}.{secrets.STRAY}", good[:-4])),
        *map(bearing, (f"{header}.{payload}.", f"{header}.{payload[:-3]}.{signature}", good + "." + good)),
        bearing(good_token(stranger)),
        *(bearing(good_token(signer, **{claim: secrets.STRAY})) for claim in ("iss", "aud", "exp")),
        bearing(good_token(signer, exp=1)),
        (("authorization", f"Basic {secrets.STRAY}"),),
        (("traceparent", secrets.STRAY), ("baggage", f"token={secrets.STRAY}")),
    ]


def signatures(body: bytes) -> list[str]:
    """The app's own, and others."""
    return [sign(body, secrets.APP.client_secret), "", secrets.STRAY]


@asynccontextmanager
async def by_http(door: Door, answers: Answers) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose every answer is kept."""

    async def keep(answer: httpx.Response) -> None:
        await answer.aread()
        answers.heard(answer)

    hooks = {"response": [keep]}
    async with httpx.AsyncClient(
        base_url=door.http, trust_env=False, timeout=CALL_SECONDS, event_hooks=hooks
    ) as client:
        yield client


async def install(house: House, door: Door, answers: Answers, install_id: str) -> None:
    """Envoy installs the app, and tells the broker by a webhook full of tokens."""
    _kept(answers, await house.envoy.install(install_id, webhook_url=_webhook_url(door), **SIDE_FIELDS))


async def uninstall(house: House, door: Door, answers: Answers, install_id: str) -> None:
    """And takes it back."""
    path = f"/_simulator/installs/{install_id}/uninstall"
    done = await house.envoy.http.post(path, json={"webhook_url": _webhook_url(door)})
    _kept(answers, done.json())


def _webhook_url(door: Door) -> str:
    return f"{door.http}/envoy/webhooks"


def _kept(answers: Answers, done: Mapping[str, Any]) -> None:
    delivered = done["webhook"]
    kept = answers.confirmations if delivered["status"] == httpx.codes.OK else answers.http
    kept.append(json.dumps(delivered["body"]).encode())


async def knock(address: str, said: bytes) -> bytes:
    """Say something to a port, whatever it speaks; what it answers before it hangs up, or for a while."""
    parts = urlsplit(f"//{address}")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(said)
        writer.write_eof()
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(KNOCK_SECONDS):
                return await reader.read(-1)
        return b""
    finally:
        writer.close()
