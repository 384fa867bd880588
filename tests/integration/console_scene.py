"""Installs in all states, a console that knows its callers by tokens, and callers of different rights."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from broker.domain.secret import Secret
from broker.offline import audit_trails
from tests.eventually import eventually
from tests.integration.served_broker import ServedBroker, served_broker
from tests.integration.served_console import ServedConsole, served_console, text_of
from tests.integration.served_envoy import APP, OTHER_APP, served_envoy
from tests.tokens_of_callers import AUDIENCE, ISSUER, SUBJECT, Signer, claims, key_set_of

WELL, FAILING, REFUSED, FOREIGN = "1000000", "1000001", "1000002", "2000000"
APPS: Final = (APP, OTHER_APP)
SEES_ONE: Final = "sees-one"
SEES_NOTHING: Final = "sees-nothing"
POLICY: Final = f"""
permit (principal == Caller::"{SUBJECT}", action in Action::"seeInstalls", resource in App::"{APP.plugin_id}");
permit (principal == Caller::"{SEES_ONE}", action in Action::"seeInstalls",
        resource == Install::"{APP.plugin_id}/{FAILING}");
"""


@dataclass(frozen=True)
class Scene:
    """A console that knows its callers by tokens. Attributes: record: the audit trail's file."""

    served: ServedConsole
    signer: Signer
    record: Path

    def token(self, subject: str = SUBJECT) -> Secret:
        """A good one."""
        now = int(time.time())
        return self.signer.sign(claims(sub=subject, iat=now, nbf=now, exp=now + 600))

    async def see(self, path: str = "", subject: str = SUBJECT, **query: str) -> httpx.Response:
        """A page, asked for with a bearer token."""
        async with self.served.visitor(bearer=self.token(subject).reveal()) as visitor:
            return await visitor.get(self.served.url(path), params=query or None)

    async def counted(self, subject: str = SUBJECT) -> httpx.Response:
        """The overview once there is a census."""
        pages: list[httpx.Response] = []

        async def is_counted() -> bool:
            pages.append(await self.see(subject=subject))
            return "have not been counted" not in text_of(pages[-1])

        await eventually(is_counted)
        return pages[-1]

    def records(self) -> list[dict[str, Any]]:
        """What callers did, by the record."""
        lines = [json.loads(line) for line in self.record.read_text().splitlines()]
        return [line for line in lines if line["kind"] == "record"]


async def populate(broker: ServedBroker) -> None:
    """An install that is well, one that fails, one that Envoy refused, and one of another app."""
    await broker.installed(WELL, plugin_id=APP.plugin_id)
    await broker.envoy.behave(FAILING, status=500)
    await broker.install(FAILING, plugin_id=APP.plugin_id, company_id="<b>bold</b>")
    await broker.envoy.behave(REFUSED, refuse="grant")
    await broker.install(REFUSED, plugin_id=APP.plugin_id)
    await broker.installed(FOREIGN, plugin_id=OTHER_APP.plugin_id)


def by_token(folder: Path, signer: Signer) -> dict[str, str]:
    """Settings of a broker that takes the signer's tokens, on loopback."""
    (folder / "jwks.json").write_bytes(key_set_of(signer.jwk()))
    (folder / "policy.cedar").write_text(POLICY)
    return {
        "INSECURE_SERVE_ANYBODY": "false",
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_KEYS": str(folder / "jwks.json"),
        "POLICY_FILE": str(folder / "policy.cedar"),
        "AUDIT_LOG": str(folder / "audit.jsonl"),
        "AUDIT_KEY": audit_trails.generate_audit_key().reveal(),
    }


@asynccontextmanager
async def console_scene(database: str, folder: Path) -> AsyncIterator[Scene]:
    """Four installs of two apps, and a console."""
    signer = Signer.new()
    async with served_envoy(APPS) as envoy:
        async with served_broker(envoy, database, APPS) as broker:
            await populate(broker)
        async with served_console(envoy, database, APPS, **by_token(folder, signer)) as served:
            yield Scene(served, signer, folder / "audit.jsonl")
