"""Shows one example beside a sandbox: `python -m examples.run go`.

It starts a broker with everything that takes, installs an app, builds and starts the example, and asks it for a company.
Then every token of the install is revoked at the simulated Envoy, which tells nobody, and the example is asked again: its
client meets a 401, reports it, gets a newer token, and the answer is there.
"""

import argparse
import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from typing import Final

import grpc
import httpx
import psycopg

from broker import app
from broker.config import PREFIX, SettingsError
from broker.sandbox.demo import COMPANY_ID, INSTALL_ID, DemoFailed, run_demo
from broker.sandbox.embedded_postgres import EmbeddedPostgresError
from broker.sandbox.progress import Progress
from broker.sandbox.stack import CLIENT_ID, CLIENT_SECRET, TOKEN_PATH, running_stack
from broker.signals import stop_signal
from broker.telemetry.logs import configure_logging
from examples.languages import LANGUAGES, Language
from examples.service import ExampleFailed, build, running

GENERATION_HEADER: Final = "token-generation"
SIMULATED_TOKEN: Final = "simulated-"  # noqa: S105 - how every token of the simulated Envoy begins
UNKNOWN_INSTALL_ID: Final = "1000009"
NOT_FOUND: Final = "INSTALL_NOT_FOUND"
FAILURES: Final = (
    ExampleFailed,
    DemoFailed,
    SettingsError,
    app.AddressTaken,
    EmbeddedPostgresError,
    grpc.RpcError,
    httpx.HTTPError,
    psycopg.Error,
    OSError,
)


def main() -> None:
    """Exits with 0 when the example did what it shows, or somebody asked to stop; else with 1 and a sentence."""
    arguments = _arguments()
    configure_logging("auto", os.environ.get(f"{PREFIX}LOG_LEVEL", "error"))
    try:
        asyncio.run(_until_stopped(LANGUAGES[arguments.language], once=arguments.once))
    except FAILURES as error:
        sys.exit(f"the example failed: {error}")


async def _until_stopped(language: Language, *, once: bool) -> None:
    asked_to_stop = stop_signal()
    work = asyncio.create_task(_show(language, once=once))
    stop = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    work.cancel()
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


async def _show(language: Language, *, once: bool) -> None:
    progress = Progress()
    progress.line(f"A small service in {language.name}, and everything that it needs:")
    with progress.step("build") as step:
        await build(language)
        step.says(f"the example in {language.name}")
    # Free ports, and no setting of the environment's: a sandbox on the usual ones is left alone.
    async with running_stack({}, data_dir=None, secured=None, any_ports=True, progress=progress) as stack:
        envoy_url = str(stack.envoy_url)
        await run_demo(stack, envoy_url, progress)
        environment = {"TOKEN_BROKER_TARGET": stack.grpc, "ENVOY_ORIGIN": envoy_url}
        async with AsyncExitStack() as started:
            with progress.step("service") as step:
                service = await started.enter_async_context(running(language, environment))
                step.says(f"the example listens at {service.base_url}")
            await _ask_twice(service, envoy_url, progress)
            await _ask_in_vain(service, progress)
            if not once:
                progress.line(_HOW_TO_ASK.format(url=_company_url(service), envoy=envoy_url))
                await asyncio.Event().wait()


async def _ask_twice(service: httpx.AsyncClient, envoy_url: str, progress: Progress) -> None:
    with progress.step("ask") as step:
        first, answer = await _ask(service)
        step.says(f"its answer, by a token of generation {first}: {answer}")
    with progress.step("revoke") as step:
        await _revoke_all_tokens(envoy_url)
        step.says(f"Envoy has revoked every token of install {INSTALL_ID}, and told nobody")
    with progress.step("ask again") as step:
        second, answer = await _ask(service)
        step.says(f"its answer, by a token of generation {second}: {answer}")
    if second <= first:
        raise ExampleFailed(f"generation {second} after the 401 is no newer than {first}")
    progress.line(f"  The 401 was healed: reported, and asked once more with generation {second}.")


async def _ask_in_vain(service: httpx.AsyncClient, progress: Progress) -> None:
    with progress.step("unknown") as step:
        answer = await service.get(_company_url(service, UNKNOWN_INSTALL_ID))
        if answer.status_code != httpx.codes.BAD_GATEWAY or NOT_FOUND not in answer.text:
            raise ExampleFailed(
                f"of an unknown install the example answered {answer.status_code}: {answer.text}"
            )
        step.says(f"of install {UNKNOWN_INSTALL_ID} it answers {answer.status_code}, {NOT_FOUND}")


async def _ask(service: httpx.AsyncClient) -> tuple[int, str]:
    """The generation that the example says, and its answer in one line.

    Raises:
        ExampleFailed: it is not the company, or holds a token.
    """
    answer = await service.get(_company_url(service))
    if SIMULATED_TOKEN in answer.text or SIMULATED_TOKEN in str(answer.headers):
        raise ExampleFailed("the example gave a token away")
    if answer.status_code != httpx.codes.OK:
        raise ExampleFailed(f"the example answered {answer.status_code}: {answer.text}")
    try:
        generation, company = int(answer.headers[GENERATION_HEADER]), answer.json()
    except (LookupError, ValueError):
        raise ExampleFailed(f"the example answered without a generation, or no JSON: {answer.text}") from None
    if company["data"]["id"] != COMPANY_ID:
        raise ExampleFailed(f"the example answered with another company: {answer.text}")
    return generation, json.dumps(company)


def _company_url(service: httpx.AsyncClient, install_id: str = INSTALL_ID) -> str:
    return str(service.base_url.join(f"/company/{COMPANY_ID}?install={install_id}"))


async def _revoke_all_tokens(envoy_url: str) -> None:
    """Mints a pair that nobody gets, at an Envoy whose mints revoke all earlier tokens of the install."""
    async with httpx.AsyncClient(base_url=envoy_url, trust_env=False) as envoy:
        behaviour = {"mint_invalidates_earlier": True, "remaining": 1}
        (await envoy.put(f"/_simulator/behaviour/{INSTALL_ID}", json=behaviour)).raise_for_status()
        grant = {
            "grant_type": "plugin_install",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "install_id": INSTALL_ID,
        }
        (await envoy.post(TOKEN_PATH, json=grant)).raise_for_status()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.run", description="Shows an example beside a sandbox, until Ctrl-C."
    )
    parser.add_argument("language", choices=list(LANGUAGES), help="which example")
    parser.add_argument("--once", action="store_true", help="end when it has been shown")
    return parser.parse_args()


_HOW_TO_ASK: Final = """
It stays up until Ctrl-C. In another terminal:

  curl -i '{url}'
  curl {envoy}/_simulator/ledger
"""


if __name__ == "__main__":
    main()
