"""token, installs: clients of a running broker."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker.cli.failure import fail
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc, token_broker_pb2, token_broker_pb2_grpc

DEADLINE_SECONDS: Final = 60
STATE_PREFIX: Final = "INSTALL_STATE_"
COLUMNS: Final = ("pluginId", "installId", "companyId", "state", "generation", "expireTime")

Address = Annotated[
    str, typer.Option("--address", envvar="TOKEN_BROKER_ADDRESS", help="The broker's gRPC address.")
]
PluginId = Annotated[str, typer.Option("--plugin-id", help="Which app; not needed where there is one.")]
InstallId = Annotated[str, typer.Argument(metavar="INSTALL")]
Certificates = Annotated[
    Path | None,
    typer.Option(
        "--certificates",
        envvar="TOKEN_BROKER_CERTIFICATES",
        help="A folder with ca.crt, tls.crt and tls.key: call by mutual TLS. With ca.crt alone, by TLS.",
    ),
]
BearerFile = Annotated[
    Path | None,
    typer.Option(
        "--bearer-file",
        envvar="TOKEN_BROKER_BEARER_FILE",
        help="A file with the bearer token (JWT) to call with.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DEFAULT_ADDRESS: Final = "127.0.0.1:50051"

token = typer.Typer(help="Tokens, from a running broker.", no_args_is_help=True)
installs = typer.Typer(help="Installs, as a running broker knows them.", no_args_is_help=True)


@token.command("get")
def get_token(
    install_id: InstallId,
    plugin_id: PluginId = "",
    min_ttl: Annotated[float, typer.Option(help="How many seconds it must still live.")] = 0,
    address: Address = DEFAULT_ADDRESS,
    certificates: Certificates = None,
    bearer_file: BearerFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Print a valid access token, and nothing else."""
    request = token_broker_pb2.GetTokenRequest(plugin_id=plugin_id, install_id=install_id)
    try:
        if min_ttl:
            request.min_ttl.FromTimedelta(timedelta(seconds=min_ttl))
    except (ValueError, OverflowError):
        raise typer.BadParameter("is no time that can be", param_hint="--min-ttl") from None
    with channel_to(address, certificates, bearer_file) as channel:
        stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
        response = stub.GetToken(request, timeout=DEADLINE_SECONDS)
    typer.echo(_json(response) if as_json else response.access_token)


@installs.command("list")
def list_installs(
    plugin_id: PluginId = "",
    company: Annotated[str, typer.Option(help="Only installs of this company.")] = "",
    state: Annotated[str, typer.Option(help="Only installs in this state, such as ACTIVE.")] = "",
    address: Address = DEFAULT_ADDRESS,
    certificates: Certificates = None,
    bearer_file: BearerFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List installs, a line each."""
    request = installs_pb2.ListInstallsRequest(
        plugin_id=plugin_id, company_id=company, state=_state_number(state)
    )
    shown = 0
    with channel_to(address, certificates, bearer_file) as channel:
        stub = installs_pb2_grpc.InstallsStub(channel)
        while True:
            page = stub.ListInstalls(request, timeout=DEADLINE_SECONDS)
            for install in page.installs:
                if not as_json and not shown:
                    typer.echo("\t".join(COLUMNS))
                typer.echo(_json(install) if as_json else _line(install))
                shown += 1
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
    if not shown and not as_json:
        typer.echo("no installs", err=True)


@installs.command("get")
def get_install(
    install_id: InstallId,
    plugin_id: PluginId = "",
    address: Address = DEFAULT_ADDRESS,
    certificates: Certificates = None,
    bearer_file: BearerFile = None,
) -> None:
    """Show all that is known of one install, as JSON. Never a token."""
    request = installs_pb2.GetInstallRequest(plugin_id=plugin_id, install_id=install_id)
    with channel_to(address, certificates, bearer_file) as channel:
        stub = installs_pb2_grpc.InstallsStub(channel)
        typer.echo(_json(stub.GetInstall(request, timeout=DEADLINE_SECONDS).install, indent=2))


@installs.command("refresh")
def refresh_install(
    install_id: InstallId,
    plugin_id: PluginId = "",
    address: Address = DEFAULT_ADDRESS,
    certificates: Certificates = None,
    bearer_file: BearerFile = None,
) -> None:
    """Fetch a new token pair now, due or not, and show the install."""
    request = installs_pb2.RefreshInstallRequest(plugin_id=plugin_id, install_id=install_id)
    with channel_to(address, certificates, bearer_file) as channel:
        stub = installs_pb2_grpc.InstallsStub(channel)
        typer.echo(_json(stub.RefreshInstall(request, timeout=DEADLINE_SECONDS).install, indent=2))


@installs.command("delete")
def delete_install(
    install_id: InstallId,
    plugin_id: PluginId = "",
    address: Address = DEFAULT_ADDRESS,
    certificates: Certificates = None,
    bearer_file: BearerFile = None,
) -> None:
    """Destroy an install's tokens, leave a tombstone, and show it."""
    request = installs_pb2.DeleteInstallRequest(plugin_id=plugin_id, install_id=install_id)
    with channel_to(address, certificates, bearer_file) as channel:
        stub = installs_pb2_grpc.InstallsStub(channel)
        typer.echo(_json(stub.DeleteInstall(request, timeout=DEADLINE_SECONDS).install, indent=2))


@contextmanager
def channel_to(address: str, certificates: Path | None, bearer_file: Path | None) -> Iterator[grpc.Channel]:
    """A channel whose errors end the command with a sentence."""
    try:
        with _open_channel(address, certificates, bearer_file) as channel:
            yield channel
    except OSError as error:
        fail(f"{error.filename} can't be read: {error.strerror}")
    except grpc.RpcError as error:
        if _nobody_answered(error):
            fail(
                f"no broker answers at {address}; start one with `make run`, name its address with --address, "
                "or show it --certificates if it asks for them"
            )
        fail(sentence(error))


def _open_channel(address: str, certificates: Path | None, bearer_file: Path | None) -> grpc.Channel:
    if certificates is None:
        channel = grpc.insecure_channel(address)
    else:
        key, certificate = certificates / "tls.key", certificates / "tls.crt"
        shown = (key.read_bytes(), certificate.read_bytes()) if key.exists() else (None, None)
        channel = grpc.secure_channel(
            address, grpc.ssl_channel_credentials((certificates / "ca.crt").read_bytes(), *shown)
        )
    if bearer_file is None:
        return channel
    return grpc.intercept_channel(channel, Bearer(bearer_file.read_text(encoding="utf-8").strip()))


class _CallDetails(NamedTuple):
    """grpc.ClientCallDetails, which can't be made."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class Bearer(grpc.UnaryUnaryClientInterceptor):
    """Shows a bearer token with each call, also where gRPC's own call credentials won't: on loopback without TLS."""

    def __init__(self, token: str) -> None:
        self._metadata = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See grpc.UnaryUnaryClientInterceptor."""
        asked = client_call_details
        details = _CallDetails(
            asked.method,
            asked.timeout,
            [*(asked.metadata or ()), self._metadata],
            asked.credentials,
            asked.wait_for_ready,
            asked.compression,
        )
        return continuation(details, request)


def sentence(error: Any) -> str:
    """What a person should read of a grpc.RpcError: the reason, the message, and when to retry."""
    status = rpc_status.from_call(error)
    if status is None:
        return f"{error.code().name}: {error.details()}"
    reason, retry = "", ""
    for detail in status.details:
        info, retry_info = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry_info):
            retry = f" (retry in {retry_info.retry_delay.ToTimedelta().total_seconds():.1f} s)"
    return f"{reason}: {status.message}{retry}"


def _nobody_answered(error: Any) -> bool:
    """Whether the broker's own details are missing from an UNAVAILABLE."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and rpc_status.from_call(error) is None


def _state_number(state: str) -> "installs_pb2.InstallState.ValueType":
    if not state:
        return installs_pb2.INSTALL_STATE_UNSPECIFIED
    try:
        return installs_pb2.InstallState.Value(STATE_PREFIX + state.upper())
    except ValueError:
        known = [name.removeprefix(STATE_PREFIX) for name in installs_pb2.InstallState.keys()[1:]]
        raise typer.BadParameter(f"must be one of {', '.join(known)}", param_hint="--state") from None


def _line(install: installs_pb2.Install) -> str:
    fields = MessageToDict(install)
    fields["state"] = fields.get("state", "").removeprefix(STATE_PREFIX)
    return "\t".join(str(fields.get(column, "-")) for column in COLUMNS)


def _json(message: Message, indent: int | None = None) -> str:
    return json.dumps(MessageToDict(message, preserving_proto_field_name=True), indent=indent)
