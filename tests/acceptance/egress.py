"""A program: a broker at work in a lonely network, and as JSON where anything was sent meanwhile.

The arguments: the program `ip`, a database by a Unix socket, and a folder for the broker's files.
"""

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import grpc.aio

from broker import offline
from broker.config import PREFIX
from tests.acceptance.canary.collector import collecting
from tests.acceptance.canary.echoing_envoy import EchoingEnvoy, echoing_envoy
from tests.acceptance.lonely_network import Watch, make_lonely, watching
from tests.fault_proxy import fault_proxy, proxied, target_of
from tests.integration.scripted_server import Connection, ScriptedServer, scripted
from tests.integration.served_broker import INSTALL_ID, settings_for
from tests.integration.served_envoy import ServedEnvoy, served_envoy
from tests.processes import TOKEN_BROKER, running
from tests.tokens_of_callers import AUDIENCE, ISSUER, SUBJECT, Signer, claims, key_set_of
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc, token_broker_pb2, token_broker_pb2_grpc

# RFC 5737: nobody's. Where the broker is lured to, and where this program goes, to see whether that is noticed.
LURE: Final = "198.51.100.7"
ELSEWHERE: Final = "203.0.113.9"
DNS_PORT: Final = 53
HTTPS_PORT: Final = 443
CALL_SECONDS: Final = 30
LIFE_SECONDS: Final = 600
POLICY: Final = f'permit (principal == Caller::"{SUBJECT}", action, resource in App::"4242");'
PROXY_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


async def watched(database: str, folder: Path) -> dict[str, object]:
    """What was seen, and who is known."""
    signer = Signer.new()
    async with (
        served_envoy() as envoy,
        echoing_envoy(envoy.port) as front,
        collecting() as collector,
        _key_server(signer) as keys,
        fault_proxy(target_of(database)) as postgres,
    ):
        known = {
            "database": f"tcp 127.0.0.1 {postgres.port}",
            "token endpoint": _target(front.url),
            "collector": _target(collector.url),
            "key server": f"tcp 127.0.0.1 {keys.port}",
        }
        environ = settings_for(proxied(database, postgres), front.url) | _settings(
            folder, keys, collector.url
        )
        with watching() as watch:
            async with running(TOKEN_BROKER, "serve", env=environ) as broker:
                started = json.loads(await broker.err.line("broker.started"))
                await broker.err.line("broker.ready")
                await _put_to_work(started, envoy, front, signer)
                # In peace: then the spans are sent.
                broker.signal(signal.SIGTERM)
                await broker.end()
            await _go_elsewhere()
        own = {_target(f"http://{started[door]}") for door in ("grpc", "http")} | {
            f"tcp 127.0.0.1 {envoy.port}"
        }
        return {"known": known, "missed": watch.missed, "sent_to": sorted(_broker_sent_to(watch, own))}


def _broker_sent_to(watch: Watch, own: set[str]) -> set[str]:
    """Without what this program sent: to the broker itself, and from Envoy's front to Envoy."""
    return watch.sent_to - own


def _settings(folder: Path, keys: ScriptedServer, collector_url: str) -> dict[str, str]:
    (folder / "policy.cedar").write_text(POLICY)
    settings = {
        "INSECURE_SERVE_ANYBODY": "false",
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_KEYS": f"http://127.0.0.1:{keys.port}/jwks",
        "POLICY_FILE": str(folder / "policy.cedar"),
        "AUDIT_LOG": str(folder / "audit.jsonl"),
        "AUDIT_KEY": offline.audit_trails.generate_audit_key().reveal(),
        "LOG_FORMAT": "json",
    }
    lures = dict.fromkeys(PROXY_VARIABLES, f"http://{LURE}:3128")
    return {f"{PREFIX}{name}": value for name, value in settings.items()} | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector_url,
        "NO_PROXY": "",
        "no_proxy": "",
        **lures,
    }


@asynccontextmanager
async def _key_server(signer: Signer) -> AsyncIterator[ScriptedServer]:
    async def script(connection: Connection) -> None:
        await connection.answer(200, key_set_of(signer.jwk()))

    async with scripted(script) as server:
        yield server


async def _put_to_work(
    started: dict[str, str], envoy: ServedEnvoy, front: EchoingEnvoy, signer: Signer
) -> None:
    """A webhook, tokens, refreshes; and an Envoy that points elsewhere."""
    await envoy.install(INSTALL_ID, webhook_url=f"http://{started['http']}/envoy/webhooks")
    now = int(time.time())
    token = signer.sign(claims(iat=now, nbf=now, exp=now + LIFE_SECONDS)).reveal()
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(started["grpc"], [("grpc.enable_http_proxy", 0)]) as channel:
        tokens = token_broker_pb2_grpc.TokenBrokerStub(channel)
        installs = installs_pb2_grpc.InstallsStub(channel)
        wanted = token_broker_pb2.GetTokenRequest(install_id=INSTALL_ID)
        await tokens.GetToken(wanted, timeout=CALL_SECONDS, metadata=metadata)
        refresh = installs_pb2.RefreshInstallRequest(install_id=INSTALL_ID)
        front.planned.append(_redirect)
        with suppress(grpc.aio.AioRpcError):
            await installs.RefreshInstall(refresh, timeout=CALL_SECONDS, metadata=metadata)
        await installs.RefreshInstall(refresh, timeout=CALL_SECONDS, metadata=metadata)


def _redirect(_: str) -> bytes:
    return f"HTTP/1.1 307 Elsewhere\r\nLocation: http://{LURE}/\r\nContent-Length: 0\r\n\r\n".encode()


async def _go_elsewhere() -> None:
    """What would be seen, if the broker did it."""
    with suppress(OSError):
        await asyncio.open_connection(ELSEWHERE, HTTPS_PORT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
        question.sendto(b"?", (ELSEWHERE, DNS_PORT))


def _target(url: str) -> str:
    host, _, port = url.removeprefix("http://").partition(":")
    return f"tcp {host} {port}"


if __name__ == "__main__":
    ip_program, database_url, files = sys.argv[1:]
    make_lonely(ip_program)
    sys.stdout.write(json.dumps(asyncio.run(watched(database_url, Path(files)))))
