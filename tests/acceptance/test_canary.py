"""P5: no token, secret or key where it does not belong. A house whose every secret is marked, and a search for the marks.

What a broker may say is said here, too: that the search finds it there shows that it can see.
"""

import base64
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import grpc
import pytest

from tests.acceptance.canary.answers import Answers
from tests.acceptance.canary.haystacks import (
    answered,
    printed,
    seen_at_work,
    sent_and_recorded,
    written_by_database,
)
from tests.acceptance.canary.house import house
from tests.acceptance.canary.marks import Mark, Search
from tests.acceptance.canary.secrets import (
    ACCESS_TOKENS,
    IN_THE_OPEN,
    OF_THE_APP,
    OF_THE_COLLECTOR,
    OF_THE_KEY_SERVER,
    REFRESH_TOKENS,
    SIDE_FIELDS,
    marks_of,
)
from tests.acceptance.canary.visit import visit, visit_with_settings_mixed_up, visit_without_database

NOTHING: Final[set[str]] = set()
NO_SECRET: Final = {IN_THE_OPEN.name}
# Every haystack, and what may be found in it, and must be: no secret but where it is the business.
MAY_HOLD: Final[dict[str, set[str]]] = {
    "stdout, by certificate": NOTHING,
    "stderr, by certificate": NO_SECRET,
    "stdout, by token": NO_SECRET,
    "stderr, by token": NO_SECRET,
    "stdout, locked out": NOTHING,
    "stderr, locked out": NOTHING,
    "stdout, mixed up": NOTHING,
    "stderr, mixed up": NOTHING,
    "replies with tokens": NO_SECRET | {ACCESS_TOKENS.name},
    "replies": NO_SECRET,
    "refusals": NOTHING,
    # Envoy gets back what the installer submitted.
    "confirmations of webhooks": {SIDE_FIELDS.name},
    "http": NOTHING,
    "told to envoy": NO_SECRET | {OF_THE_APP.name, REFRESH_TOKENS.name},
    "told to the key server": {OF_THE_KEY_SERVER.name},
    "told to the collector": {OF_THE_COLLECTOR.name},
    "spans and metrics": NO_SECRET,
    "audit": NO_SECRET,
    "pg_stat_activity": NO_SECRET,
    "database's files": NO_SECRET,
    "database's log": NO_SECRET,
}
# So many ways to be refused are on the way, or the visit has lost some.
MUST_BE_REFUSED: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
}


async def test_no_secret_is_found_outside_of_where_it_belongs(tmp_path: Path) -> None:
    """Everything that outsiders can do is done, and all that was printed, told, sent and written is searched."""
    answers = Answers()
    async with house(tmp_path) as home:
        await visit(home, answers)
        at_work = seen_at_work(home.postgres)
        await visit_without_database(home, answers)
        ended = await home.close() | {"mixed up": await visit_with_settings_mixed_up()}
        search = Search(marks_of(tmp_path, home.database_password))
        haystacks = {
            **printed(ended),
            **answered(answers),
            **sent_and_recorded(home),
            **at_work,
            **written_by_database(home.postgres),
        }
    assert {name: search.found_in(haystack) for name, haystack in haystacks.items()} == MAY_HOLD
    assert answers.codes >= MUST_BE_REFUSED


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_search_finds_a_secret_in_every_form(before: str) -> None:
    """A test of the test: a form that it can't read would hide every leak in that form."""
    secret = 'canary+&=%/:"s secret that goes on'
    mark = Mark.of("it", secret)
    written = (before + secret + "behind").encode()
    forms = (
        written,
        repr(written).encode(),
        written.hex().encode(),
        written.hex().upper().encode(),
        base64.b64encode(written),
        base64.urlsafe_b64encode(written),
        urlencode({"token": before + secret}).encode(),
        f'{{"said": "{before}canary+&=%/:\\"s secret that goes on"}}'.encode(),
    )
    assert [Search([mark]).found_in(form) for form in forms] == [{"it"}] * len(forms)
    assert Search([mark]).found_in(b"canary that sings, and nothing else") == NOTHING
