"""`token-broker token`: tokens, from a running broker."""

from datetime import timedelta
from typing import Annotated

import typer

from broker.cli.channel import DEADLINE_SECONDS, Callee, calls_a_broker
from broker.cli.printing import AsJson, InstallId, as_json_text
from tokenbroker.v1 import token_broker_pb2, token_broker_pb2_grpc

token = typer.Typer(help="Tokens, from a running broker.", no_args_is_help=True)


@token.command("get")
@calls_a_broker
def get_token(
    callee: Callee,
    install_id: InstallId,
    min_ttl: Annotated[float, typer.Option(help="How many seconds it must still live.")] = 0,
    *,
    as_json: AsJson = False,
) -> None:
    """Print a valid access token, and nothing else."""
    request = token_broker_pb2.GetTokenRequest(plugin_id=callee.plugin_id, install_id=install_id)
    try:
        if min_ttl:
            request.min_ttl.FromTimedelta(timedelta(seconds=min_ttl))
    except (ValueError, OverflowError):
        raise typer.BadParameter("is no time that can be", param_hint="--min-ttl") from None
    with callee.channel() as channel:
        stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
        response = stub.GetToken(request, timeout=DEADLINE_SECONDS)
    typer.echo(as_json_text(response) if as_json else response.access_token)
