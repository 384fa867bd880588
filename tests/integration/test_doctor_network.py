"""What the doctor says of what must be reached, and of where a broker would listen: real sockets, real handshakes."""

import asyncio
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from broker.doctor import network, provider
from tests.certificates_of_callers import issue
from tests.doctor_lines import FAIL, OK, WARN, findings, only, settings
from tests.integration.served_broker import served_broker
from tests.integration.served_envoy import ServedEnvoy
from tests.integration.tls_listener import tls_listener
from tests.tokens_of_callers import Signer, key_set_of

HOST = "127.0.0.1"


@pytest.fixture
def authority() -> trustme.CA:
    """Issues the servers' certificates."""
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    """A server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """The broker's side, if that authority stood in its list."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that somebody listens at."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    """A port that nobody listens at."""
    with taken_port() as port:
        return port


def test_provider_is_shaken_hands_with_and_asked_nothing(authority: trustme.CA) -> None:
    """Not a byte of a request, let alone a credential, leaves for a check."""
    with tls_listener(server_tls(authority)) as listener:
        url = f"https://localhost:{listener.port}/oauth2/token"
        found = provider.handshake_with(url, trusting(authority))
        assert found.weight is OK
        assert found.found.startswith(
            f"localhost:{listener.port}: TLSv1.3, its certificate verified, which ends "
        )
    assert listener.heard == [b""]


@pytest.mark.parametrize(
    ("name", "believed", "says"),
    [
        ("localhost", False, "its certificate is not believed: unable to get local issuer certificate"),
        ("another.test", True, "its certificate is not believed: Hostname mismatch"),
    ],
)
def test_provider_that_is_somebody_else_is_told(
    authority: trustme.CA, name: str, believed: bool, says: str
) -> None:
    """A proxy that opens TLS would read the client secret."""
    trust = trusting(authority if believed else trustme.CA())
    with tls_listener(server_tls(authority, name)) as listener:
        found = provider.handshake_with(f"https://localhost:{listener.port}/token", trust)
    assert found.weight is FAIL
    assert says in found.found
    assert listener.heard == []


def test_provider_with_an_expired_certificate_is_told(authority: trustme.CA, tmp_path: Path) -> None:
    """Or this machine's clock is wrong, which looks the same."""
    issue(authority, "localhost", ends_in=-timedelta(minutes=1)).write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with tls_listener(context) as listener:
        found = provider.handshake_with(f"https://localhost:{listener.port}/token", trusting(authority))
    assert (found.weight, "certificate has expired" in found.found) == (FAIL, True)


def test_provider_is_judged_by_the_list_that_a_broker_believes(authority: trustme.CA) -> None:
    """Not by this machine's: a broker would refuse what the doctor had praised."""
    with tls_listener(server_tls(authority)) as listener:
        found = only("provider", settings(ENVOY_TOKEN_URL=f"https://localhost:{listener.port}/token"))
    assert (found.weight, "is not believed" in found.found) == (FAIL, True)


def test_provider_that_does_not_answer_is_told_by_the_step(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name, a firewall and a server that hangs are mended by three different people."""
    monkeypatch.setattr(network, "REACH_LIMIT", timedelta(milliseconds=200))
    trust = trusting(authority)
    unknown = provider.handshake_with("https://no-such-host.invalid/token", trust)
    assert "the name of its host is not found" in unknown.found
    refused = provider.handshake_with(f"https://{HOST}:{free_port()}/token", trust)
    assert "no connection by TCP (Connection refused)" in refused.found
    with tls_listener(None) as listener:
        silent = provider.handshake_with(f"https://{HOST}:{listener.port}/token", trust)
    assert "TCP connects, and TLS does not answer" in silent.found
    assert {each.weight for each in (unknown, refused, silent)} == {FAIL}


def test_provider_on_this_machine_needs_no_tls() -> None:
    """The simulated Envoy."""
    with taken_port() as port:
        assert only("provider", settings(ENVOY_TOKEN_URL=f"http://{HOST}:{port}/token")).weight is OK
    assert only("provider", settings(ENVOY_TOKEN_URL=f"http://{HOST}:{port}/token")).weight is FAIL


class KeyServer(http.server.BaseHTTPRequestHandler):
    """Serves a key set."""

    document = key_set_of(Signer.new("ES256").jwk())

    def do_GET(self) -> None:
        """The keys, to who shows the token."""
        is_let_in = self.headers.get("Authorization") == "Bearer let-me-in"
        self.send_response(200 if is_let_in else 401)
        self.end_headers()
        self.wfile.write(self.document if is_let_in else b"")

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def key_server(authority: trustme.CA) -> Iterator[str]:
    """Its URL."""
    server = http.server.HTTPServer((HOST, 0), KeyServer)
    server.socket = server_tls(authority).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/jwks"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_callers_keys_are_fetched_as_a_broker_fetches_them(authority: trustme.CA, tmp_path: Path) -> None:
    """With its own authority and token, as from Kubernetes' API server."""
    ca, token = tmp_path / "ca.crt", tmp_path / "token"
    ca.write_bytes(authority.cert_pem.bytes())
    token.write_text("let-me-in")
    with key_server(authority) as url:
        named = {"JWT_ISSUER": "https://issuer", "JWT_AUDIENCE": "broker", "JWT_KEYS": url}
        good = settings(**named, JWT_KEYS_CA_FILE=str(ca), JWT_KEYS_TOKEN_FILE=str(token))
        assert only("caller keys", good).found == "keys that can verify bearer tokens: 1 of 1"
        no_token = only("caller keys", settings(**named, JWT_KEYS_CA_FILE=str(ca)))
        assert (no_token.weight, "(status_401)" in no_token.found) == (FAIL, True)
        assert "TOKEN_BROKER_JWT_KEYS_TOKEN_FILE" in no_token.remedy
        no_ca = only("caller keys", settings(**named, JWT_KEYS_TOKEN_FILE=str(token)))
        assert (no_ca.weight, "(certificate_refused)" in no_ca.found) == (FAIL, True)
    gone = only("caller keys", good)
    assert (gone.weight, "no connection by TCP" in gone.found) == (FAIL, True)


def test_collector_is_reached_by_tcp_or_told() -> None:
    """Nobody notices a missing trace until it is needed. The broker serves without: no FAIL."""
    with taken_port() as port:
        reached = only("collector", {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{port}"})
        bare = only("collector", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{HOST}:{port}"})
        both = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{port}",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://{HOST}:{free_port()}",
        }
        assert [each.weight for each in findings("collector", both)] == [OK, WARN]
    away = only("collector", {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{port}"})
    nowhere = only("collector", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"})
    assert [each.weight for each in (reached, bare, away, nowhere)] == [OK, OK, WARN, WARN]


@pytest.mark.parametrize(
    "switch",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}, {}],
)
def test_collector_that_nobody_sends_to_is_not_looked_at(switch: dict[str, str]) -> None:
    """As the exporters decide it."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://nowhere.invalid:1"} if switch else {}
    assert only("collector", endpoint | switch).weight is OK


def test_protocol_that_there_is_not_is_told() -> None:
    """A broker does not start with it."""
    with taken_port() as port:
        named = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke",
        }
        assert only("collector", named, "PROTOCOL").weight is FAIL


def test_free_addresses_are_fine_and_stay_free() -> None:
    """A doctor that holds a port for a moment too long would keep a broker from starting."""
    port = free_port()
    for _ in range(2):
        found = findings("addresses", settings(GRPC_ADDRESS=f"{HOST}:{port}"))
        assert {each.weight for each in found} == {OK}
    with socket.create_server((HOST, port)):
        pass


def test_address_of_another_program_is_told() -> None:
    """The broker would end at once."""
    with taken_port() as port:
        found = only("addresses", settings(GRPC_ADDRESS=f"{HOST}:{port}"), "GRPC_ADDRESS")
    assert (found.weight, "taken by another program" in found.found) == (FAIL, True)


def test_each_worker_has_an_operations_port() -> None:
    """The port behind is easily somebody else's."""
    with taken_port() as port:
        variables = settings(WORKERS="2", OPERATIONS_ADDRESS=f"{HOST}:{port - 1}")
        found = [each for each in findings("addresses", variables) if "OPERATIONS" in each.found]
    assert [str(port - 1) in found[0].found, str(port) in found[1].found] == [True, True]
    assert found[1].weight is FAIL
    too_high = settings(WORKERS="2", OPERATIONS_ADDRESS=f"{HOST}:65535")
    assert only("addresses", too_high, "there is no port 65536").weight is FAIL


@pytest.mark.parametrize("address", ["192.0.2.1:50051", "no-such-host.invalid:50051"])
def test_address_of_another_machine_is_told(address: str) -> None:
    """A name or a number that was copied with the rest."""
    found = only("addresses", settings(GRPC_ADDRESS=address), "GRPC_ADDRESS")
    assert found.weight is FAIL


async def test_addresses_of_a_running_broker_are_as_they_should_be(
    simulated_envoy: ServedEnvoy, database: str
) -> None:
    """The doctor is asked beside it, in the same container."""
    async with served_broker(simulated_envoy, database) as served:
        doors = {
            "GRPC_ADDRESS": served.grpc_address,
            "HTTP_ADDRESS": f"0.0.0.0:{served.broker.http_port}",
        }
        found = await asyncio.to_thread(findings, "addresses", settings(**doors))
    taken = [each for each in found if "a broker runs here" in each.found]
    assert [each.weight for each in taken] == [OK, OK]
