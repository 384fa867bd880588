"""ListInstalls: pages, and page tokens that somebody else made."""

import base64
import json
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import InvalidField
from broker.domain.identifiers import InstallKey
from broker.domain.installs import InstallFilter
from broker.domain.states import InstallState
from broker.service.list_installs import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, InstallPage
from tests.fakes.replica import Replica, World
from tests.fakes.samples import COMPANY

EVERYTHING = InstallFilter()
ListInstallsOfACaller = Callable[[InstallFilter, int, str], Awaitable[InstallPage]]


async def enrolled(world: World, replica: Replica, count: int) -> ListInstallsOfACaller:
    """The use case over `count` installs."""
    for n in range(count):
        await replica.store.enrol(InstallKey("5024", f"{n:05}"), COMPANY)
    assert len(world.table.rows) == count
    return replica.list_installs


def encoded(content: object) -> str:
    """A page token as a forger would make it."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


async def test_pages_follow_one_another_to_the_end(world: World, replica: Replica) -> None:
    """AIP-158: an empty token means the last page."""
    list_installs, token, sizes = await enrolled(world, replica, 10), "", []
    while True:
        page = await list_installs(EVERYTHING, 4, token)
        sizes.append(len(page.installs))
        token = page.next_page_token
        if not token:
            break
    assert sizes == [4, 4, 2]


async def test_full_last_page_has_no_next(world: World, replica: Replica) -> None:
    """Else the client asks once more for nothing."""
    list_installs = await enrolled(world, replica, 8)
    first = await list_installs(EVERYTHING, 4, "")
    second = await list_installs(EVERYTHING, 4, first.next_page_token)
    assert (len(second.installs), second.next_page_token) == (4, "")


@pytest.mark.parametrize(
    ("asked", "given_size"), [(0, DEFAULT_PAGE_SIZE), (1, 1), (MAX_PAGE_SIZE + 5, MAX_PAGE_SIZE)]
)
async def test_page_size_has_a_default_and_a_limit(
    world: World, replica: Replica, asked: int, given_size: int
) -> None:
    """AIP-158: too large is cut down, and no error."""
    list_installs = await enrolled(world, replica, MAX_PAGE_SIZE + 1)
    assert len((await list_installs(EVERYTHING, asked, "")).installs) == given_size


async def test_negative_page_size_is_refused(replica: Replica) -> None:
    """AIP-158."""
    with pytest.raises(InvalidField, match="page_size"):
        await replica.list_installs(EVERYTHING, -1, "")


@pytest.mark.parametrize("value", ["", "é", "x" * 129, "a\nb"])
async def test_impossible_filter_is_refused(replica: Replica, value: str) -> None:
    """A list that is silently empty would hide the mistake."""
    with pytest.raises(InvalidField, match="plugin_id"):
        await replica.list_installs(InstallFilter(plugin_id=value), 0, "")
    with pytest.raises(InvalidField, match="company_id"):
        await replica.list_installs(InstallFilter(company_id=value), 0, "")


async def test_token_of_other_filters_is_refused(world: World, replica: Replica) -> None:
    """AIP-158: the arguments must not change between pages."""
    list_installs = await enrolled(world, replica, 3)
    token = (await list_installs(EVERYTHING, 1, "")).next_page_token
    for other in (
        InstallFilter(company_id=COMPANY),
        InstallFilter(state=InstallState.ACTIVE),
        InstallFilter(failing=True),
    ):
        with pytest.raises(InvalidField, match="page_token belongs to a list with other filters"):
            await list_installs(other, 1, token)


async def test_token_goes_with_another_page_size(world: World, replica: Replica) -> None:
    """AIP-158: page_size may change between pages."""
    list_installs = await enrolled(world, replica, 3)
    token = (await list_installs(EVERYTHING, 1, "")).next_page_token
    assert len((await list_installs(EVERYTHING, 2, token)).installs) == 2


FORGED = {
    "no base64": "%%%",
    "half of base64": "abc",
    "blank": " ",
    "not ASCII": "é",
    "half a surrogate pair": "\ud800",
    "base64 of no JSON": "YWJj",
    "base64 of no UTF-8": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "null": encoded(None),
    "a number": encoded(7),
    "a huge number": base64.urlsafe_b64encode(b"9" * 5000).decode(),
    "an object": encoded({"plugin_id": "5024"}),
    "too short": encoded(["5024", "1"]),
    "too long": encoded(["5024", "1", "x", "y"]),
    "wrong types": encoded([5024, 1, "x"]),
    "deeply nested": base64.urlsafe_b64encode(b"[" * 100_000).decode(),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_garbled_page_token_is_refused(replica: Replica, kind: str) -> None:
    """A clear error, whatever the caller sends; the store is not asked."""
    with pytest.raises(InvalidField, match="page_token"):
        await replica.list_installs(EVERYTHING, 0, FORGED[kind])
    assert not replica.store.calls


@pytest.mark.parametrize("install_id", ["a\0b", "\ud800", "", "x" * 129], ids=ascii)
async def test_page_token_with_impossible_ids_is_refused(
    world: World, replica: Replica, install_id: str
) -> None:
    """Postgres fails at a NUL, and psycopg at half a surrogate pair: neither may get there."""
    list_installs = await enrolled(world, replica, 2)
    token = (await list_installs(EVERYTHING, 1, "")).next_page_token
    fingerprint = json.loads(base64.urlsafe_b64decode(token))[-1]
    with pytest.raises(InvalidField, match="page_token"):
        await list_installs(EVERYTHING, 1, encoded(["5024", install_id, fingerprint]))


@given(st.text())
async def test_any_text_is_no_page_token(text: str) -> None:
    """Fuzz: InvalidField or, for nothing, the first page."""
    list_installs = Replica(World()).list_installs
    if text:
        with pytest.raises(InvalidField):
            await list_installs(EVERYTHING, 0, text)
