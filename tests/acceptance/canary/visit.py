"""A visit: everything that an outsider can do, done at every door of the house."""

import asyncio
from typing import Final

from broker.sandbox.secured import OPERATOR, SERVICE, STRANGER
from broker.sandbox.simulated_envoy.webhooks import SIGNATURE_HEADER
from tests.acceptance.canary import secrets
from tests.acceptance.canary.answers import Answers
from tests.acceptance.canary.echoing_envoy import ECHOES, Echo, limited
from tests.acceptance.canary.house import FORGED, Door, House
from tests.acceptance.canary.outsiders import (
    BROKEN_WEBHOOKS,
    Caller,
    bad_credentials,
    bearing,
    by_http,
    caller,
    good_token,
    install,
    knock,
    signatures,
    uninstall,
)
from tests.processes import Finished, token_broker

BY_TOKEN_ID: Final = f"{secrets.INSTALL_ID}-2"
NEW_ID: Final = f"{secrets.INSTALL_ID}-3"
BROKEN_KEYSET: Final = f'{{"primaryKeyId": 1, "key": [{{"keyData": {{"value": "{secrets.MISPLACED}"}}}}]}}'
NO_PROTOCOL: Final = (
    f"GET /?access_token={secrets.STRAY} HTTP/9.9\r\nAuthorization: Bearer {secrets.STRAY}\r\n\r\n".encode(),
    f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {secrets.STRAY}\r\n\r\n{secrets.STRAY}".encode(),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + secrets.STRAY.encode(),
    b"\x16\x03\x01" + secrets.STRAY.encode(),
)


async def visit(house: House, answers: Answers) -> None:
    """Try everything; nothing fails but what is refused."""
    await install(house, house.by_certificate, answers, secrets.INSTALL_ID)
    await install(house, house.by_token, answers, BY_TOKEN_ID)
    await _certified(house, answers)
    await _bearing_tokens(house, answers)
    for door in (house.by_certificate, house.by_token):
        await _by_http(door, answers)
        await _without_manners(door)
    await _while_envoy_echoes(house, answers)


async def visit_without_database(house: House, answers: Answers) -> None:
    """Try what needs the database, while it is away."""
    house.proxy.refuse()
    house.proxy.cut()
    door = house.by_certificate
    async with caller(house, door, answers, OPERATOR) as operator, by_http(door, answers) as http:
        await asyncio.gather(operator.operate("unseen"), operator.get_token("unseen"))
        await install(house, door, answers, f"{NEW_ID}-4")
        await http.get("/readyz")
    house.proxy.restore()


async def visit_with_settings_mixed_up() -> Finished:
    """An operator starts a broker, and has put every secret where another belongs."""
    wrong = secrets.MISPLACED
    settings = {
        "DATABASE_URL": f"postgresql://user:{wrong}@host:port/{wrong}",
        "KEYSET": BROKEN_KEYSET,
        "AUDIT_KEY": wrong,
        "ENVOY_CLIENT_ID": wrong,
        "ENVOY_CLIENT_SECRET_FILE": wrong,
        "ENVOY_TOKEN_URL": f"https://user:{wrong}@envoy.example/{wrong}",
        "GRPC_ADDRESS": wrong,
        "TLS_KEY_FILE": wrong,
        "JWT_ALGORITHMS": wrong,
        "JWT_KEYS": f"https://user:{wrong}@keys.example/?token={wrong}",
        "LOG_LEVEL": wrong,
        "APPS": f'[{{"client_secret": "{wrong}", "clientSecret": "{wrong}"}}]',
    }
    environ = {f"TOKEN_BROKER_{name}": value for name, value in settings.items()}
    return await token_broker("serve", env=environ)


async def _certified(house: House, answers: Answers) -> None:
    door, install_id = house.by_certificate, secrets.INSTALL_ID
    async with caller(house, door, answers, SERVICE) as service:
        await service.use_tokens(install_id)
        await service.break_the_protocol()
    async with caller(house, door, answers, OPERATOR) as operator:
        await operator.operate(install_id)
    for name in (STRANGER, FORGED, None):
        async with caller(house, door, answers, name, bearing(secrets.STRAY)) as refused:
            await refused.get_token(install_id)
            await refused.refresh(install_id)


async def _bearing_tokens(house: House, answers: Answers) -> None:
    metadata = bearing(good_token(house.signer))
    async with caller(house, house.by_token, answers, metadata=metadata) as good:
        await good.use_tokens(BY_TOKEN_ID)
        await good.operate(BY_TOKEN_ID)
        await good.break_the_protocol()
        refused = [Caller(good.channel, answers, each) for each in bad_credentials(house.signer)]
        await asyncio.gather(*(each.get_token(BY_TOKEN_ID) for each in refused))


async def _by_http(door: Door, answers: Answers) -> None:
    shown = {"Authorization": f"Bearer {secrets.STRAY}", "Cookie": secrets.STRAY}
    async with by_http(door, answers) as http:
        for body in BROKEN_WEBHOOKS:
            for signature in signatures(body):
                await http.post("/envoy/webhooks", content=body, headers={SIGNATURE_HEADER: signature})
        for method, path in (
            ("GET", "/readyz"),
            ("GET", "/healthz"),
            ("GET", "/envoy/webhooks"),
            ("PUT", f"/{secrets.STRAY}"),
            ("POST", "/envoy/webhooks/7"),
            ("POST", f"/envoy/webhooks?token={secrets.STRAY}"),
        ):
            await http.request(method, path, headers=shown)


async def _without_manners(door: Door) -> None:
    addresses = (door.grpc, door.http.removeprefix("http://"))
    await asyncio.gather(*(knock(address, said) for address in addresses for said in NO_PROTOCOL))


async def _while_envoy_echoes(house: House, answers: Answers) -> None:
    metadata = bearing(good_token(house.signer))
    async with (
        caller(house, house.by_certificate, answers, OPERATOR) as operator,
        caller(house, house.by_token, answers, metadata=metadata) as good,
    ):
        for asks, install_id in ((operator, secrets.INSTALL_ID), (good, BY_TOKEN_ID)):
            for echo in ECHOES.values():
                await _hear(house, asks, install_id, echo)
                # A pair, whose refresh token the next one presents.
                await asks.refresh(install_id)
        house.front.planned.append(ECHOES["failed"])
        await install(house, house.by_certificate, answers, NEW_ID)
        await uninstall(house, house.by_certificate, answers, NEW_ID)
        await operator.delete(NEW_ID)
        # After that Envoy is not called for a while.
        await _hear(house, operator, secrets.INSTALL_ID, limited)


async def _hear(house: House, asks: Caller, install_id: str, echo: Echo) -> None:
    house.front.planned.append(echo)
    await asks.refresh(install_id)
    await asks.get_token(install_id)
    assert not house.front.planned, "Envoy was not asked"
