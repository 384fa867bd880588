"""How a command reaches a running broker: the options that say where it is and who calls, and the channel to it."""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, NamedTuple

import grpc
import typer
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker.cli.failure import fail

DEADLINE_SECONDS: Final = 60
DEFAULT_ADDRESS: Final = "127.0.0.1:50051"

PluginId = Annotated[str, typer.Option("--plugin-id", help="Which app; not needed where there is one.")]
Address = Annotated[
    str, typer.Option("--address", envvar="TOKEN_BROKER_ADDRESS", help="The broker's gRPC address.")
]
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


@dataclass(frozen=True, slots=True)
class Callee:
    """What a client's command was told: which broker, shown which credentials, and which of its apps."""

    plugin_id: str
    address: str
    certificates: Path | None
    bearer_file: Path | None

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A channel to it. Errors end the command with a sentence."""
        with channel_to(self.address, self.certificates, self.bearer_file) as channel:
            yield channel


def _option(name: str, annotation: object, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


# As the fields of a Callee.
_OPTIONS: Final = (
    _option("plugin_id", PluginId, ""),
    _option("address", Address, DEFAULT_ADDRESS),
    _option("certificates", Certificates),
    _option("bearer_file", BearerFile),
)


def calls_a_broker(command: Callable[Concatenate[Callee, ...], None]) -> Callable[..., None]:
    """A command with the options of every client beside its own. Its function is given them as one Callee."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        callee = Callee(**{option.name: given.pop(option.name) for option in _OPTIONS})
        command(callee, **given)

    _, *own = inspect.signature(command).parameters.values()
    options = sorted([*own, *_OPTIONS], key=lambda parameter: parameter.kind)
    vars(with_options)["__signature__"] = inspect.Signature(options)
    return with_options


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
