"""The console in a real browser: on a phone, by keyboard, by those who need contrast; and its picture for the docs."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.chromium import Page, chromium_page
from tests.eventually import eventually
from tests.integration.console_scene import APPS, FAILING, REFUSED, by_token
from tests.integration.served_broker import served_broker
from tests.integration.served_console import ServedConsole, served_console
from tests.integration.served_envoy import APP, OTHER_APP, served_envoy
from tests.tokens_of_callers import SUBJECT, Signer, claims
from tests.toolchains import requires_program

PICTURE: Final = Path(__file__).parents[2] / "build/console.png"
PHONE: Final = (390, 844)
DESKTOP: Final = (1180, 780)
# A picture that is looked at now and then should not make every clone slow.
MOST_BYTES: Final = 150_000
# WCAG 2.2, success criterion 1.4.3, for text of this size.
LEAST_CONTRAST: Final = 4.5
PAGES: Final = (
    "",
    "/installs",
    "/installs?show=all",
    f"/install?plugin_id={APP.plugin_id}&install_id={FAILING}",
    "/install?plugin_id=none&install_id=none",
)
LONG_NAME: Final = "a" * 128
WIDER_THAN_THE_SCREEN: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FOCUS: Final = "(e => e.textContent.trim() || e.name || e.tagName)(document.activeElement)"
OUTLINE: Final = """(s => s.outlineStyle === "none" ? 0 : parseFloat(s.outlineWidth))(
  getComputedStyle(document.activeElement))"""
# The ratio of WCAG for each text on the page, the worst with its text.
CONTRAST: Final = """(() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => {
    const [r, g, b] = parts(c).map(v => (v /= 255, v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if ((parts(c)[3] ?? 1) > 0) return c;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = [99, ""];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, e.textContent.trim()];
  }
  return worst;
})()"""
# Tables whose cells nobody could name, and fields without a label.
UNNAMED: Final = """[
  ...[...document.querySelectorAll("th:not([scope])")].map(e => e.outerHTML),
  ...[...document.querySelectorAll("input, select")].filter(e => !e.labels.length).map(e => e.outerHTML),
]"""


@pytest.fixture
async def console(database: str) -> AsyncIterator[ServedConsole]:
    """Installs of two apps in all states, with names as long as they may be, and a console for anybody."""
    async with served_envoy(APPS) as envoy:
        async with served_broker(envoy, database, APPS) as broker:
            for number in range(12):
                await broker.installed(f"{1_000_100 + number}", plugin_id=APP.plugin_id)
            for number in range(5):
                await broker.installed(f"{2_000_000 + number}", plugin_id=OTHER_APP.plugin_id)
            await envoy.behave(FAILING, status=500)
            await broker.install(FAILING, plugin_id=APP.plugin_id, company_id=LONG_NAME)
            await envoy.behave(REFUSED, refuse="grant")
            await broker.install(REFUSED, plugin_id=APP.plugin_id)
        async with served_console(envoy, database, APPS) as served:
            yield served


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A page of a browser."""
    async with chromium_page(requires_program("chromium"), tmp_path / "browser") as opened:
        yield opened


async def counted(page: Page, console: ServedConsole) -> None:
    """The overview, when there is a census."""

    async def is_counted() -> bool:
        await page.go(console.url())
        text: str = await page.evaluate("document.body.innerText")
        return "have not been counted" not in text

    await eventually(is_counted)


async def test_no_page_is_wider_than_a_phone(page: Page, console: ServedConsole) -> None:
    """Who is on call has a phone at hand, and no page should be pushed to and fro."""
    await page.look(*PHONE)
    await counted(page, console)
    for path in PAGES:
        await page.go(console.url(path))
        assert await page.evaluate(WIDER_THAN_THE_SCREEN) <= 0, path


async def test_text_can_be_read_in_light_and_dark(page: Page, console: ServedConsole) -> None:
    """At night most of all."""
    for scheme in ("light", "dark"):
        await page.look(*DESKTOP, scheme=scheme)
        await counted(page, console)
        for path in PAGES:
            await page.go(console.url(path))
            ratio, text = await page.evaluate(CONTRAST)
            assert ratio >= LEAST_CONTRAST, (scheme, path, text)
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


async def test_headings_of_tables_and_fields_are_named(page: Page, console: ServedConsole) -> None:
    """A screen reader says with each cell what it is."""
    await counted(page, console)
    for path in PAGES:
        await page.go(console.url(path))
        assert await page.evaluate(UNNAMED) == [], path
        assert await page.evaluate("document.querySelectorAll('h1').length") == 1


async def test_keyboard_alone_leads_to_an_install(page: Page, console: ServedConsole) -> None:
    """From the skip link on, with the focus in sight all the way."""
    await page.look(*DESKTOP)
    await page.go(console.url())
    await page.press("Tab")
    assert await page.evaluate(FOCUS) == "Skip to the content"
    assert await page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    await page.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.go(console.url())
    await tab_to(page, "Failing installs")
    await page.press("Enter", leads_on=True)
    await tab_to(page, FAILING)
    await page.press("Enter", leads_on=True)
    assert await page.evaluate("document.querySelector('h1').textContent") == f"Install {FAILING}"


async def tab_to(page: Page, text: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(20):
        await page.press("Tab")
        assert await page.evaluate(OUTLINE) >= 2
        if await page.evaluate(FOCUS) == text:
            return
    pytest.fail(f"no Tab leads to {text!r}")


async def test_browser_signs_in_by_the_form(page: Page, database: str, tmp_path: Path) -> None:
    """The browser's own rules decide what becomes of the cookie."""
    signer, now = Signer.new(), int(time.time())
    token = signer.sign(claims(iat=now, nbf=now, exp=now + 600)).reveal()
    async with (
        served_envoy(APPS) as envoy,
        served_console(envoy, database, APPS, **by_token(tmp_path, signer)) as console,
    ):
        await page.go(console.url())
        await tab_to(page, "token")
        await page.type(token)
        await page.press("Enter", leads_on=True)
        text: Any = await page.evaluate("document.body.innerText")
        assert SUBJECT in text
        assert await page.evaluate("document.cookie") == ""
        await tab_to(page, "Sign out")
        await page.press("Enter", leads_on=True)
        assert await page.evaluate("document.querySelector('h1').textContent") == "Who are you?"


async def test_picture_for_the_docs_shows_the_overview(page: Page, console: ServedConsole) -> None:
    """docs/console.md shows what there is; this is where its picture comes from."""
    await page.look(*DESKTOP)
    await counted(page, console)
    await page.picture(PICTURE)
    assert PICTURE.stat().st_size < MOST_BYTES
