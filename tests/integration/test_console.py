"""The console's pages: who sees what of them, that it is on record, and what no page ever does."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from broker.service.list_installs import DEFAULT_PAGE_SIZE
from broker.web.console.rendering import HEADERS
from tests.integration.console_scene import (
    FAILING,
    FOREIGN,
    REFUSED,
    SEES_NOTHING,
    SEES_ONE,
    WELL,
    Scene,
    console_scene,
)
from tests.integration.served_console import text_of
from tests.integration.served_envoy import APP, OTHER_APP
from tests.tokens_of_callers import SUBJECT

MANY: Final = """
INSERT INTO token_broker.installs (plugin_id, install_id, company_id, state)
SELECT %(plugin_id)s, 5000000 + number, '100000', 'provisional' FROM generate_series(1, %(count)s) AS number
"""
MARKUP: Final = '"><script>alert(1)</script>'


@pytest.fixture
async def scene(database: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Four installs of two apps, and a console."""
    async with console_scene(database, tmp_path) as made:
        yield made


async def test_overview_counts_by_state_and_by_expiry(scene: Scene) -> None:
    """The first question at night: how many, and how bad."""
    read = text_of(await scene.counted())
    assert "3 installs, 2 failing" in read
    assert f"{APP.plugin_id} active 1 33 % 0" in read
    assert "reauthorization required 1 33 % 1" in read
    assert "12 to 24 hours" in read
    assert "closed" in read
    assert "Ready yes" in read


async def test_overview_shows_no_app_that_the_policy_does_not_give(scene: Scene) -> None:
    """Counts name apps, and say how they fare."""
    await scene.counted()
    assert OTHER_APP.plugin_id not in (await scene.see()).text
    for subject in (SEES_ONE, SEES_NOTHING):
        page = await scene.see(subject=subject)
        assert page.status_code == 200
        assert "none that you may see" in text_of(page)
        assert APP.plugin_id not in page.text


async def test_failing_installs_are_listed_with_their_reasons(scene: Scene) -> None:
    """Which, why, and when it is tried again."""
    read = text_of(await scene.see("/installs"))
    assert FAILING in read
    assert "status_500" in read
    assert "when the app is set up again" in read
    assert WELL not in read
    assert FOREIGN not in read


async def test_list_is_filtered_as_asked(scene: Scene) -> None:
    """By app, company and state; and all of them, if that is asked."""
    assert WELL in (await scene.see("/installs", show="all")).text
    by_state = (await scene.see("/installs", state="reauthorization_required")).text
    assert (REFUSED in by_state, FAILING in by_state) == (True, False)
    by_company = (await scene.see("/installs", company_id="100000")).text
    assert (REFUSED in by_company, FAILING in by_company) == (True, False)
    assert "No such installs" in (await scene.see("/installs", plugin_id=OTHER_APP.plugin_id)).text
    assert (await scene.see("/installs", state="asleep")).status_code == 400
    assert (await scene.see("/installs", page_token="made-up")).status_code == 400


async def test_list_shows_what_the_policy_gives_and_no_more(scene: Scene) -> None:
    """A list is judged install by install."""
    page = await scene.see("/installs", subject=SEES_ONE)
    assert (FAILING in page.text, REFUSED in page.text) == (True, False)
    assert FAILING not in (await scene.see("/installs", subject=SEES_NOTHING)).text


async def test_install_shows_its_history_and_never_a_token(scene: Scene) -> None:
    """What happened, newest first, with the trace that leads further."""
    page = await scene.see("/install", plugin_id=APP.plugin_id, install_id=WELL)
    read = text_of(page)
    assert "State active" in read
    assert "Attempt 1: minted , generation 1" in read
    assert "For exchange" in read
    assert "simulated-at-" not in page.text
    assert "simulated-rt-" not in page.text


async def test_unknown_and_forbidden_installs_look_the_same(scene: Scene) -> None:
    """P6: to the byte; the record alone tells them apart."""
    unknown = await scene.see("/install", plugin_id=APP.plugin_id, install_id="7777777")
    forbidden = await scene.see("/install", subject=SEES_ONE, plugin_id=APP.plugin_id, install_id=WELL)
    assert (unknown.status_code, unknown.content) == (forbidden.status_code, forbidden.content)
    assert unknown.status_code == 404
    assert [record["outcome"] for record in scene.records()] == ["INSTALL_NOT_FOUND", "DENIED"]


async def test_each_page_is_on_record_as_the_call_that_it_is(scene: Scene) -> None:
    """P7: who has looked at what is known afterwards, whichever door they came by."""
    await scene.see()
    await scene.see("/installs")
    await scene.see("/install", plugin_id=APP.plugin_id, install_id=WELL)
    seen = [(record["operation"], record["outcome"], record["caller"]) for record in scene.records()]
    assert seen == [
        ("ListInstalls", "OK", SUBJECT),
        ("ListInstalls", "OK", SUBJECT),
        ("GetInstall", "OK", SUBJECT),
    ]
    assert scene.records()[-1]["address"].startswith("ipv4:127.0.0.1:")
    assert scene.records()[-1]["install_id"] == WELL


async def test_names_with_markup_in_them_are_text(scene: Scene) -> None:
    """Companies and installs are named by others, and a query by whoever made a link."""
    listed = await scene.see("/installs")
    assert "<b>bold</b>" not in listed.text
    assert "&lt;b&gt;bold&lt;/b&gt;" in listed.text
    for field in ("plugin_id", "company_id", "state", "page_token", "show"):
        assert MARKUP not in (await scene.see("/installs", **{field: MARKUP})).text
    assert MARKUP not in (await scene.see("/install", plugin_id=MARKUP, install_id=MARKUP)).text


async def test_every_answer_forbids_scripts_frames_and_copies(scene: Scene) -> None:
    """Also those that refuse, and the one style sheet."""
    async with scene.served.visitor() as visitor:
        answers = [
            await visitor.get(scene.served.url()),
            await visitor.get(scene.served.url("/console.css")),
            await visitor.post(scene.served.url("/sign-out")),
            await visitor.post(scene.served.url("/sign-in"), data={"token": "none"}),
            await scene.see(),
            await scene.see("/install", plugin_id=APP.plugin_id, install_id="7777777"),
        ]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items(), answer.url
        assert "style=" not in answer.text
        assert "<script" not in answer.text


async def test_pages_lead_from_one_to_the_next(scene: Scene, database: str) -> None:
    """A fleet does not fit on one page."""
    with psycopg.connect(database) as connection:
        connection.execute(MANY, {"plugin_id": APP.plugin_id, "count": DEFAULT_PAGE_SIZE})
    first = await scene.see("/installs", show="all")
    (link,) = re.findall(r'rel="next" href="/console([^"]*)"', first.text)
    second = await scene.see(html.unescape(link))
    assert ("First page" in second.text, "Next page" in second.text) == (True, False)
    listed = re.findall(r"install_id=(\d+)", first.text + second.text)
    assert len(listed) == len(set(listed)) == DEFAULT_PAGE_SIZE + 3


async def test_what_cannot_be_recorded_is_not_shown(scene: Scene) -> None:
    """P7: the record first, then the page."""
    scene.record.unlink()
    scene.record.mkdir()
    page = await scene.see("/installs")
    assert (page.status_code, FAILING in page.text) == (503, False)
    assert int(page.headers["retry-after"]) >= 1
