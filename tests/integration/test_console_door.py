"""Who gets into the console, and how a browser shows who it is."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.sandbox.secured import OPERATOR, STRANGER, secure
from broker.web.console.door import COOKIE
from tests.integration.console_scene import WELL, Scene, by_token, console_scene
from tests.integration.served_broker import served_broker
from tests.integration.served_console import client_tls, served_console, text_of
from tests.integration.served_envoy import APP, ServedEnvoy
from tests.tokens_of_callers import SUBJECT, Signer


@pytest.fixture
async def scene(database: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Four installs of two apps, and a console."""
    async with console_scene(database, tmp_path) as made:
        yield made


async def test_who_shows_nothing_is_asked_who_they_are(scene: Scene) -> None:
    """The console is behind the same door as the API."""
    async with scene.served.visitor() as visitor:
        for path in ("", "/installs", f"/install?plugin_id={APP.plugin_id}&install_id={WELL}"):
            page = await visitor.get(scene.served.url(path))
            assert (page.status_code, page.headers["www-authenticate"]) == (401, "Bearer")
            assert WELL not in page.text
            assert APP.plugin_id not in page.text
    async with scene.served.visitor(bearer=Signer.new().token().reveal()) as impostor:
        assert (await impostor.get(scene.served.url())).status_code == 401
    assert scene.records() == []


async def test_browser_signs_in_and_out(scene: Scene) -> None:
    """A browser sends no header by itself; what it keeps, scripts and other sites don't get at."""
    async with scene.served.visitor() as browser:
        signed_in = await browser.post(scene.served.url("/sign-in"), data={"token": scene.token().reveal()})
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/console")
        cookie = signed_in.headers["set-cookie"]
        assert {"HttpOnly", "Path=/console", "SameSite=strict"} <= set(cookie.split("; "))
        assert SUBJECT in text_of(await browser.get(scene.served.url()))
        await browser.post(scene.served.url("/sign-out"))
        assert (await browser.get(scene.served.url())).status_code == 401


async def test_bad_token_is_not_kept_by_the_browser(scene: Scene) -> None:
    """Nor is it shown again."""
    async with scene.served.visitor() as browser:
        answer = await browser.post(scene.served.url("/sign-in"), data={"token": "bad.token.bad"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert "does not take that token" in text_of(answer)
    assert "bad.token.bad" not in answer.text


async def test_form_of_another_site_is_refused(scene: Scene) -> None:
    """Else somebody could sign others in, as whom they choose."""
    async with scene.served.visitor() as browser:
        answer = await browser.post(
            scene.served.url("/sign-in"),
            data={"token": scene.token().reveal()},
            headers={"sec-fetch-site": "cross-site"},
        )
    assert (answer.status_code, COOKIE in answer.headers.get("set-cookie", "")) == (403, False)


async def test_form_without_an_end_is_not_read_to_it(scene: Scene) -> None:
    """Nobody has shown who they are yet."""
    async with scene.served.visitor() as browser:
        answer = await browser.post(scene.served.url("/sign-in"), data={"token": "a" * 20_000})
    assert answer.status_code == 413


async def test_metrics_stay_open_beside_the_console(scene: Scene) -> None:
    """Prometheus shows no token."""
    async with scene.served.visitor() as visitor:
        address = scene.served.url().removesuffix("/console")
        assert (await visitor.get(f"{address}/metrics")).status_code == 200
        assert (await visitor.get(f"{address}/readyz")).text.startswith("ready")


async def test_client_certificate_opens_the_console(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """Mutual TLS: the names are those that gRPC sees. Who shows none gets no further than the door; metrics do."""
    door = {name.removeprefix("TOKEN_BROKER_"): value for name, value in secure(tmp_path).items()}
    async with served_broker(simulated_envoy, database) as broker:
        await broker.installed(WELL)
    door["INSECURE_SERVE_ANYBODY"] = "false"
    async with served_console(simulated_envoy, database, (APP,), **door) as served:
        seen: dict[str | None, tuple[int, bool]] = {}
        for name in (OPERATOR, STRANGER, None):
            tls = client_tls(tmp_path, certificate=tmp_path / name if name else None)
            async with served.visitor(tls=tls) as visitor:
                page = await visitor.get(served.url("/installs?show=all", scheme="https"))
                seen[name] = page.status_code, WELL in page.text
                metrics = served.url(scheme="https").replace("/console", "/metrics")
                assert (await visitor.get(metrics)).status_code == 200
    assert seen == {OPERATOR: (200, True), STRANGER: (200, False), None: (401, False)}


async def test_anybody_is_served_by_the_name_of_this_machine_alone(
    simulated_envoy: ServedEnvoy, database: str
) -> None:
    """Where nobody need show who they are, a page of somebody else's must not read along (DNS rebinding)."""
    async with served_console(simulated_envoy, database) as served, served.visitor() as visitor:
        assert (await visitor.get(served.url())).status_code == 200
        rebound = await visitor.get(served.url(), headers={"host": "evil.example:9090"})
        assert rebound.status_code == 421


async def test_caller_that_runs_wild_is_shed(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """Pages cost the database something, as calls do."""
    signer = Signer.new()
    settings = by_token(tmp_path, signer) | {"CALLER_CALLS_PER_SECOND": "0.1"}
    async with served_console(simulated_envoy, database, (APP,), **settings) as served:
        scene = Scene(served, signer, tmp_path / "audit.jsonl")
        asked = [await scene.see() for _ in range(2)]
    assert asked[-1].status_code == 503
    assert "calls too often" in text_of(asked[-1])
