"""sandbox: a broker that needs no account, and what to try with it."""

import asyncio
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import grpc
import httpx
import psycopg
import typer
import uvloop

from broker import app, telemetry
from broker.cli.client import sentence
from broker.cli.operate import fail
from broker.config import PREFIX, SettingsError
from broker.sandbox.demo import INSTALL_ID, DemoFailed, run_demo, send_install
from broker.sandbox.embedded_postgres import EmbeddedPostgresError
from broker.sandbox.progress import Progress
from broker.sandbox.stack import PLUGIN_ID, Stack, has_real_credentials, running_stack

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
) -> None:
    """Start everything, install one app, and read its token. Stays up until Ctrl-C."""
    telemetry.configure_logging("auto", os.environ.get(f"{PREFIX}LOG_LEVEL", "warning"))
    progress = Progress(sys.stderr if as_json else sys.stdout)
    try:
        uvloop.run(_run(progress, once=once, as_json=as_json, ports=ports, data_dir=data_dir))
    except SettingsError as error:
        fail("these settings can't be:", *error.problems)
    except app.AddressTaken as error:
        fail(str(error), "set it to a free address, or let `--ports auto` pick one")
    except grpc.RpcError as error:
        fail(f"the demo failed: {sentence(error)}")
    except (DemoFailed, httpx.HTTPError) as error:
        fail(f"the demo failed: {error}")
    except (EmbeddedPostgresError, psycopg.Error, app.MigrationChanged, OSError) as error:
        fail(str(error))


@sandbox.command("install")
def install(
    install_id: Annotated[str, typer.Option(help="The install's id at Envoy.")],
    company: Annotated[str, typer.Option(help="The company's id at Envoy.")],
    envoy: Annotated[str, typer.Option(help="The simulated Envoy.")] = DEFAULT_ENVOY,
    broker: Annotated[str, typer.Option(help="The broker's HTTP address.")] = DEFAULT_HTTP,
) -> None:
    """Have the simulated Envoy of a running sandbox install the app: it sends a signed route webhook."""
    webhook_url = f"{broker}/envoy/webhooks/{PLUGIN_ID}"
    try:
        answer = asyncio.run(send_install(envoy, webhook_url, install_id, company))
    except httpx.HTTPError as error:
        fail(f"the simulated Envoy at {envoy} did not do it: {error}")
    status = answer["webhook"]["status"]
    typer.echo(f"install {install_id}: the broker answered {status} to the route webhook")
    if status != httpx.codes.OK:
        raise typer.Exit(1)


async def _run(progress: Progress, *, once: bool, as_json: bool, ports: Ports, data_dir: Path | None) -> None:
    """Run until the demo is over or somebody asks to stop, whichever comes first."""
    asked_to_stop = app.stop_signal()
    work = asyncio.create_task(_work(progress, once=once, as_json=as_json, ports=ports, data_dir=data_dir))
    stop = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not work.done():
        progress.line("stopping …")
        work.cancel()
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


async def _work(
    progress: Progress, *, once: bool, as_json: bool, ports: Ports, data_dir: Path | None
) -> None:
    if once and has_real_credentials(os.environ):
        fail(
            "--once shows an install by a simulated Envoy; with real credentials Envoy itself must send the webhook"
        )
    progress.line("Starting a broker with everything it needs:")
    async with running_stack(
        os.environ, data_dir=data_dir, any_ports=ports is Ports.AUTO, progress=progress
    ) as stack:
        if stack.envoy_url is None:
            progress.line(_REAL_ENVOY.format(http=stack.http, grpc=stack.grpc))
        else:
            result = await run_demo(stack, stack.envoy_url, progress)
            if as_json:
                typer.echo(json.dumps(result.as_json(stack, progress)))
        if not once:
            if stack.envoy_url is not None:
                progress.line(_how_to_call(stack))
            await asyncio.Event().wait()


def _how_to_call(stack: Stack) -> str:
    return _HOW_TO_CALL.format(
        grpc=stack.grpc,
        http=stack.http,
        envoy=stack.envoy_url,
        install_id=INSTALL_ID,
        command=f"{Path(sys.argv[0]).parent}/token-broker",
    )


_HOW_TO_CALL: Final = """
It stays up until Ctrl-C. In another terminal:

  {command} token get {install_id} --address {grpc}
  {command} installs list --address {grpc}
  {command} sandbox install --install-id 1000001 --company 100001 --envoy {envoy} --broker {http}
  curl {envoy}/_simulator/ledger

Callers are not authenticated here, so everything listens on loopback only.
"""

_REAL_ENVOY: Final = """
This is the real Envoy. Let your app's setup step post to this machine, for example through a tunnel:

  validation URL   {http}/envoy/webhooks
  then             token-broker token get INSTALL --address {grpc}

It stays up until Ctrl-C.
"""
