"""sandbox: a broker that needs no account, and what to try with it."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer

from broker.cli.failure import fail

DEFAULT_ENVOY: Final = "http://127.0.0.1:8081"
DEFAULT_HTTP: Final = "http://127.0.0.1:8080"

sandbox = typer.Typer(help="A broker with its own Postgres and a simulated Envoy.", no_args_is_help=True)


class Ports(StrEnum):
    """Which ports to listen at."""

    DEFAULT = "default"
    AUTO = "auto"


@sandbox.command("run")
def run(
    *,
    once: Annotated[bool, typer.Option(help="Stop when the demo is over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
    ports: Annotated[Ports, typer.Option(help="`auto` picks free ones.")] = Ports.DEFAULT,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the database and its keys here for the next run.")
    ] = None,
    secure: Annotated[
        Path | None,
        typer.Option(
            help="Ask callers who they are: make certificates, a policy and a record in this folder, or use those there."
        ),
    ] = None,
) -> None:
    """Start everything, install one app, and read its token. Stays up until Ctrl-C."""
    from broker.cli.sandbox_run import run_sandbox

    run_sandbox(once=once, as_json=as_json, any_ports=ports is Ports.AUTO, data_dir=data_dir, secured=secure)


@sandbox.command("install")
def install(
    install_id: Annotated[str, typer.Option(help="The install's id at Envoy.")],
    company: Annotated[str, typer.Option(help="The company's id at Envoy.")],
    envoy: Annotated[str, typer.Option(help="The simulated Envoy.")] = DEFAULT_ENVOY,
    broker: Annotated[str, typer.Option(help="The broker's HTTP address.")] = DEFAULT_HTTP,
) -> None:
    """Have the simulated Envoy of a running sandbox install the app: it sends a signed route webhook."""
    from broker.sandbox.demo import send_install
    from broker.sandbox.stack import PLUGIN_ID

    webhook_url = f"{broker}/envoy/webhooks/{PLUGIN_ID}"
    try:
        answer = asyncio.run(send_install(envoy, webhook_url, install_id, company))
    except httpx.HTTPError as error:
        fail(f"the simulated Envoy at {envoy} did not do it: {error}")
    status = answer["webhook"]["status"]
    typer.echo(f"install {install_id}: the broker answered {status} to the route webhook")
    if status != httpx.codes.OK:
        raise typer.Exit(1)
