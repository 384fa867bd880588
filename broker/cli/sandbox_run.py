"""`token-broker sandbox run`: start everything, show the demo, stay up."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

import grpc
import httpx
import psycopg
import typer
import uvloop

from broker import app, offline
from broker.cli.channel import sentence
from broker.cli.failure import fail
from broker.config import PREFIX, SettingsError
from broker.sandbox.demo import INSTALL_ID, DemoFailed, run_demo
from broker.sandbox.embedded_postgres import EmbeddedPostgresError
from broker.sandbox.progress import Progress
from broker.sandbox.secured import OPERATOR, SERVICE, STRANGER
from broker.sandbox.stack import Stack, names_real_app, running_stack
from broker.signals import stop_signal
from broker.telemetry.logs import configure_logging

COMMAND: Final = Path(sys.executable).parent / "token-broker"


def run_sandbox(
    *, once: bool, as_json: bool, any_ports: bool, data_dir: Path | None, secured: Path | None
) -> None:
    """Run until the demo is over, or until somebody asks to stop. Exits with 1 and a sentence if it can't."""
    configure_logging("auto", os.environ.get(f"{PREFIX}LOG_LEVEL", "warning"))
    progress = Progress(sys.stderr if as_json else sys.stdout)
    try:
        uvloop.run(
            _run(
                progress, once=once, as_json=as_json, any_ports=any_ports, data_dir=data_dir, secured=secured
            )
        )
    except SettingsError as error:
        fail("these settings can't be:", *error.problems)
    except app.AddressTaken as error:
        fail(str(error), "set it to a free address, or let `--ports auto` pick one")
    except grpc.RpcError as error:
        fail(f"the demo failed: {sentence(error)}")
    except (DemoFailed, httpx.HTTPError) as error:
        fail(f"the demo failed: {error}")
    except (EmbeddedPostgresError, psycopg.Error, offline.MigrationChanged, OSError) as error:
        fail(str(error))


async def _run(
    progress: Progress,
    *,
    once: bool,
    as_json: bool,
    any_ports: bool,
    data_dir: Path | None,
    secured: Path | None,
) -> None:
    """Run until the demo is over or somebody asks to stop, whichever comes first."""
    asked_to_stop = stop_signal()
    work = asyncio.create_task(
        _work(progress, once=once, as_json=as_json, any_ports=any_ports, data_dir=data_dir, secured=secured)
    )
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
    progress: Progress,
    *,
    once: bool,
    as_json: bool,
    any_ports: bool,
    data_dir: Path | None,
    secured: Path | None,
) -> None:
    if once and names_real_app(os.environ):
        fail(
            "--once shows an install by a simulated Envoy; with real credentials Envoy itself must send the webhook"
        )
    progress.line("Starting a broker with everything it needs:")
    async with running_stack(
        os.environ, data_dir=data_dir, secured=secured, any_ports=any_ports, progress=progress
    ) as stack:
        if stack.envoy_url is None:
            progress.line(_REAL_ENVOY.format(http=stack.http, grpc=stack.grpc, command=COMMAND))
        else:
            result = await run_demo(stack, stack.envoy_url, progress)
            if as_json:
                typer.echo(json.dumps(result.as_json(stack, progress)))
        if not once:
            if stack.envoy_url is not None:
                progress.line(_how_to_call(stack))
            await asyncio.Event().wait()


def _how_to_call(stack: Stack) -> str:
    if stack.secured is not None:
        return _HOW_TO_CALL_SECURED.format(
            grpc=stack.grpc,
            folder=stack.secured,
            install_id=INSTALL_ID,
            command=COMMAND,
            service=SERVICE,
            operator=OPERATOR,
            stranger=STRANGER,
        )
    return _HOW_TO_CALL.format(
        grpc=stack.grpc,
        http=stack.http,
        envoy=stack.envoy_url,
        install_id=INSTALL_ID,
        command=COMMAND,
    )


_HOW_TO_CALL: Final = """
It stays up until Ctrl-C. In another terminal:

  {command} token get {install_id} --address {grpc}
  {command} installs list --address {grpc}
  {command} sandbox install --install-id 1000001 --company 100001 --envoy {envoy} --broker {http}
  curl {envoy}/_simulator/ledger

Anybody on this machine is served here (TOKEN_BROKER_INSECURE_SERVE_ANYBODY), so gRPC listens on loopback only. For
certificates, a policy and a record: make run ARGS="--secure build/secure"
"""

_HOW_TO_CALL_SECURED: Final = """
It stays up until Ctrl-C. Callers prove who they are by the certificates in {folder}. In another terminal:

  {command} token get {install_id} --address {grpc} --certificates {folder}/{service}
  {command} installs list --address {grpc} --certificates {folder}/{operator}
  {command} token get {install_id} --address {grpc} --certificates {folder}/{stranger}     # gets nothing
  {command} policy who-can --install 4242/{install_id} --policy {folder}/policy.cedar
  tail {folder}/audit.jsonl

Change {folder}/policy.cedar, and the next call is judged by it.
"""

_REAL_ENVOY: Final = """
This is the real Envoy. Let your app's setup step post to this machine, for example through a tunnel:

  validation URL   {http}/envoy/webhooks
  then             {command} token get INSTALL --address {grpc}

It stays up until Ctrl-C. What it holds is gone then, unless you name a --data-dir: your installs would have to go
through your app's setup again.
"""
