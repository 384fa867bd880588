"""The house: real brokers, and a database, an Envoy, an issuer and a collector around them, all of which hear secrets."""

import asyncio
import json
import re
import signal
import socket
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.adapters.postgres.migrate import migrate
from broker.config import PREFIX
from broker.sandbox.certificates import Authority, of_caller
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.secured import POLICY_FILE, SERVICE, secure
from tests.acceptance.canary import secrets
from tests.acceptance.canary.collector import Collector, collecting
from tests.acceptance.canary.echoing_envoy import EchoingEnvoy, echoing_envoy
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.integration.scripted_server import Connection, ScriptedServer, scripted
from tests.integration.served_broker import settings_for
from tests.integration.served_envoy import ServedEnvoy, served_envoy
from tests.processes import TOKEN_BROKER, Finished, Running, running
from tests.tokens_of_callers import AUDIENCE, ISSUER, SUBJECT, Signer, key_set_of

FORGED: Final = "forged"
KEYS_PATH: Final = "/jwks"
# Who has nothing to fear from the policy, so that the broker itself is met everywhere.
POLICY: Final = "\n".join(
    f'permit (principal == Caller::"{name}", action, resource in App::"{secrets.APP.plugin_id}");\n'
    f'permit (principal == Caller::"{name}", action, resource == App::"{secrets.APP.plugin_id}");'
    for name in ("spiffe://sandbox/checkout", "spiffe://sandbox/operator", SUBJECT)
)
# All that Postgres can be told to write down.
TALKATIVE: Final[Mapping[str, str]] = {
    "log_statement": "all",
    "log_min_messages": "info",
    "log_min_error_statement": "error",
    "log_parameter_max_length_on_error": "-1",
    "log_connections": "on",
}

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Door:
    """A broker's process, and where it is reached."""

    process: Running
    grpc: str
    http: str


@dataclass(frozen=True)
class House:
    """Attributes: folder: certificates, policy, record. by_certificate, by_token: brokers, by how they know callers."""

    folder: Path
    postgres: EmbeddedPostgres
    proxy: FaultProxy
    envoy: ServedEnvoy
    front: EchoingEnvoy
    collector: Collector
    key_server: ScriptedServer
    signer: Signer
    by_certificate: Door
    by_token: Door
    locked_out: Running

    @property
    def database_password(self) -> str:
        """What the brokers open the database with."""
        return _password(self.postgres)

    async def close(self) -> dict[str, Finished]:
        """End every broker as an orchestrator would, and return what they have printed."""
        named = {
            "by certificate": self.by_certificate.process,
            "by token": self.by_token.process,
            "locked out": self.locked_out,
        }
        for process in named.values():
            process.signal(signal.SIGTERM)
        ended = await asyncio.gather(*(process.end() for process in named.values()))
        return dict(zip(named, ended, strict=True))


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """A house in which all is up."""
    signer = Signer.new()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(talkative_postgres())
        envoy = await stack.enter_async_context(served_envoy((secrets.APP,)))
        front = await stack.enter_async_context(echoing_envoy(envoy.port))
        collector = await stack.enter_async_context(collecting())
        key_server = await stack.enter_async_context(_key_server(signer))
        direct = postgres.dsn(tcp=True)
        parts = urllib.parse.urlsplit(direct)
        proxy = await stack.enter_async_context(fault_proxy(("127.0.0.1", parts.port or 0)))
        environ = _environ(folder, direct.replace(f":{parts.port}/", f":{proxy.port}/"), front, collector)
        environs = (
            environ,
            environ | _by_token(folder, key_server, KEYS_PATH),
            environ | _by_token(folder, key_server, "/elsewhere") | _locked_out(folder, postgres),
        )
        processes = [
            await stack.enter_async_context(running(TOKEN_BROKER, "serve", env=_without_empty(each)))
            for each in environs
        ]
        doors = [await _door(process) for process in processes[:2]]
        await processes[2].err.line("broker.not_ready")
        yield House(
            folder,
            postgres,
            proxy,
            envoy,
            front,
            collector,
            key_server,
            signer,
            doors[0],
            doors[1],
            processes[2],
        )


@contextmanager
def talkative_postgres() -> Iterator[EmbeddedPostgres]:
    """A server with a password that writes down whatever it is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with EmbeddedPostgres(tcp_port=port, settings=TALKATIVE) as postgres:
        migrate(postgres.dsn(tcp=True))
        yield postgres


def _password(postgres: EmbeddedPostgres) -> str:
    return urllib.parse.urlsplit(postgres.dsn(tcp=True)).password or ""


def _environ(folder: Path, database: str, front: EchoingEnvoy, collector: Collector) -> dict[str, str]:
    (folder / POLICY_FILE).write_text(POLICY)
    secured = secure(folder)
    Authority().issue(folder / FORGED, FORGED, of_caller(f"spiffe://sandbox/{SERVICE}"))
    settings = settings_for(
        database,
        front.url,
        apps=(secrets.APP,),
        KEYSET=secrets.KEYSET,
        INSECURE_SERVE_ANYBODY="false",
        TRUST_VOUCHED_WEBHOOKS="true",
        ENVOY_CALLS_PER_SECOND="1000",
        DATABASE_SECONDS="2",
        DATABASE_CONNECTIONS="4",
        REFRESHES_IN_FLIGHT="4",
        LOG_LEVEL="debug",
        LOG_FORMAT="json",
    )
    surroundings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={secrets.COLLECTOR}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "GRPC_VERBOSITY": "debug",
        "PYTHONASYNCIODEBUG": "1",
    }
    return settings | secured | surroundings


def _by_token(folder: Path, key_server: ScriptedServer, keys_path: str) -> dict[str, str]:
    """What a broker has set otherwise that knows its callers by tokens; what can be said in two ways is said in the other."""
    keys_token = folder / "keys_token"
    keys_token.write_text(secrets.KEY_SERVER)
    settings = {
        "TLS_CLIENT_CA_FILE": "",
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_ALGORITHMS": "ES256",
        "JWT_KEYS": f"http://127.0.0.1:{key_server.port}{keys_path}",
        "JWT_KEYS_TOKEN_FILE": str(keys_token),
        "AUDIT_LOG": "-",
        "ENVOY_REQUEST_FORM": "urlencoded",
        "ENVOY_CLIENT_AUTHENTICATION": "basic",
        "LOG_FORMAT": "console",
    }
    return {f"{PREFIX}{name}": value for name, value in settings.items()}


def _without_empty(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if value}


def _locked_out(folder: Path, postgres: EmbeddedPostgres) -> dict[str, str]:
    wrong = postgres.dsn(tcp=True).replace(_password(postgres), secrets.WRONG_PASSWORD)
    return {f"{PREFIX}DATABASE_URL": wrong, f"{PREFIX}AUDIT_LOG": str(folder / "locked_out.jsonl")}


@asynccontextmanager
async def _key_server(signer: Signer) -> AsyncIterator[ScriptedServer]:
    """Shows its keys where they are, and says elsewhere what it was told."""
    keys = key_set_of(signer.jwk())

    async def script(connection: Connection) -> None:
        told = await connection.request()
        if told.startswith(f"GET {KEYS_PATH} ".encode()):
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(keys), keys))
        else:
            body = json.dumps({"keys": [], "told": told.decode()}).encode()
            head = b"HTTP/1.1 500 %b\r\nContent-Length: %d\r\n\r\n"
            await connection.send(head % (b" ".join(told.split()), len(body)) + body)

    async with scripted(script) as server:
        yield server


async def _door(process: Running) -> Door:
    started = await process.err.line("broker.started")
    await process.err.line("broker.ready")
    return Door(process, _named("grpc", started), f"http://{_named('http', started)}")


def _named(name: str, line: str) -> str:
    """A field of a log line of either format."""
    if line.startswith("{"):
        return str(json.loads(line)[name])
    found = re.search(rf"\b{name}=(\S+)", _COLOUR.sub("", line))
    assert found is not None
    return found[1]
