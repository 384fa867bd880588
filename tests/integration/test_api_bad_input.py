"""What a caller gets wrong over gRPC: the field is named, its value never shown, and nothing changes."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
import pytest
from google.protobuf import duration_pb2

from tests.integration.refusals import (
    MARK,
    assert_invalid,
    refusal_of,
    refused_without_a_trace,
)
from tests.integration.served_broker import CALL_SECONDS, ServedBroker
from tokenbroker.v1 import installs_pb2, token_broker_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD_IDS: Final = {
    "huge": MARK * 100_000,
    "one_too_long": MARK.ljust(129, "9"),
    "non_ascii": f"{MARK}é",
    "newline": f"{MARK}\n",
    "ansi_code": f"\x1b[31m{MARK}",
    "nul": f"{MARK}\0",
    "space": f"{MARK} 1",
}
OF_ONE_INSTALL: Final[dict[str, Callable[[ServedBroker, str, str], Awaitable[object]]]] = {
    "GetToken": lambda broker, plugin_id, install_id: broker.get_token(install_id, plugin_id=plugin_id),
    "GetInstall": lambda broker, plugin_id, install_id: broker.get_install(install_id, plugin_id),
    "RefreshInstall": lambda broker, plugin_id, install_id: broker.refresh(install_id, plugin_id),
    "DeleteInstall": lambda broker, plugin_id, install_id: broker.installs.DeleteInstall(
        installs_pb2.DeleteInstallRequest(plugin_id=plugin_id, install_id=install_id), timeout=CALL_SECONDS
    ),
}


@pytest.mark.parametrize("rpc", OF_ONE_INSTALL)
async def test_unknown_install_is_not_found(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], rpc: str
) -> None:
    """The id is a good one, and nobody's."""
    call = OF_ONE_INSTALL[rpc](shared_broker, "", MARK)
    refusal = await refused_without_a_trace(shared_broker, capfd, call)
    assert (refusal.code, refusal.reason, refusal.field) == (
        grpc.StatusCode.NOT_FOUND,
        "INSTALL_NOT_FOUND",
        "",
    )


@pytest.mark.parametrize("rpc", OF_ONE_INSTALL)
async def test_unknown_app_looks_like_an_unknown_install(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], rpc: str
) -> None:
    """Which apps there are is nobody's business either."""
    unknown_app = await refused_without_a_trace(
        shared_broker, capfd, OF_ONE_INSTALL[rpc](shared_broker, MARK, "1")
    )
    unknown_install = await refusal_of(OF_ONE_INSTALL[rpc](shared_broker, "", MARK))
    assert (unknown_app.code, unknown_app.message) == (unknown_install.code, unknown_install.message)


@pytest.mark.parametrize("rpc", OF_ONE_INSTALL)
async def test_empty_install_id_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], rpc: str
) -> None:
    """The commonest slip: a variable that was never set."""
    call = OF_ONE_INSTALL[rpc](shared_broker, "", "")
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "install_id")


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("rpc", OF_ONE_INSTALL)
async def test_install_id_that_can_be_none_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], rpc: str, bad: str
) -> None:
    """F47: a newline or an ANSI code must not reach a log; a huge id no query."""
    call = OF_ONE_INSTALL[rpc](shared_broker, "", BAD_IDS[bad])
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "install_id")


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("rpc", OF_ONE_INSTALL)
async def test_plugin_id_that_can_be_none_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], rpc: str, bad: str
) -> None:
    """As an install id."""
    call = OF_ONE_INSTALL[rpc](shared_broker, BAD_IDS[bad], "1")
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "plugin_id")


IMPOSSIBLE_MIN_TTLS: Final = {
    "negative": duration_pb2.Duration(seconds=-1),
    "a_microsecond_less_than_nothing": duration_pb2.Duration(nanos=-1000),
    "more_than_half_of_a_lifetime": duration_pb2.Duration(seconds=43_201),
    "longer_than_a_lifetime": duration_pb2.Duration(seconds=86_401),
    "longer_than_a_duration_can_be": duration_pb2.Duration(seconds=315_576_000_001),
    "more_than_python_can_count": duration_pb2.Duration(seconds=2**63 - 1),
    "less_than_python_can_count": duration_pb2.Duration(seconds=-(2**63)),
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("bad", IMPOSSIBLE_MIN_TTLS)
async def test_impossible_min_ttl_is_named(
    shared_broker: ServedBroker,
    capfd: pytest.CaptureFixture[str],
    install_id: str,
    bad: str,
    *,
    cached: bool,
) -> None:
    """The same request must fail the same way, whatever this process happens to remember."""
    await shared_broker.installed(install_id)
    if cached:
        await shared_broker.get_token(install_id)
        await asserted_impossible(shared_broker, capfd, install_id, bad)
    else:
        async with shared_broker.replica() as replica:
            await asserted_impossible(replica, capfd, install_id, bad)


async def asserted_impossible(
    broker: ServedBroker, capture: pytest.CaptureFixture[str], install_id: str, bad: str
) -> None:
    """GetToken refuses the min_ttl."""
    call = broker.get_token(install_id, min_ttl=IMPOSSIBLE_MIN_TTLS[bad])
    assert_invalid(await refused_without_a_trace(broker, capture, call), "min_ttl")


@pytest.mark.parametrize("bad", ["negative", "more_than_python_can_count"])
async def test_impossible_min_ttl_in_a_batch_costs_only_its_own_result(
    shared_broker: ServedBroker, install_id: str, bad: str
) -> None:
    """The call itself succeeds whenever the request is well formed."""
    await shared_broker.installed(install_id)
    requests = [
        token_broker_pb2.GetTokenRequest(install_id=install_id, min_ttl=IMPOSSIBLE_MIN_TTLS[bad]),
        token_broker_pb2.GetTokenRequest(install_id=install_id),
    ]
    reply = await shared_broker.tokens.BatchGetTokens(
        token_broker_pb2.BatchGetTokensRequest(requests=requests), timeout=CALL_SECONDS
    )
    assert [result.WhichOneof("result") for result in reply.results] == ["failure", "token"]
    assert reply.results[0].failure.field == "min_ttl"


@pytest.mark.parametrize("count", [0, 1001])
async def test_batch_of_none_or_too_many_is_refused(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], count: int
) -> None:
    """Bounded work for one call."""
    requests = [token_broker_pb2.GetTokenRequest(install_id=MARK)] * count
    call = shared_broker.tokens.BatchGetTokens(token_broker_pb2.BatchGetTokensRequest(requests=requests))
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "requests")


def forged_page_token(*parts: object) -> str:
    """A page token of our own making."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


BAD_PAGE_TOKENS: Final = {
    "no_base64": MARK,
    "non_ascii": f"{MARK}é",
    "no_json": base64.urlsafe_b64encode(MARK.encode()).decode(),
    "no_utf8": base64.urlsafe_b64encode(b"\xff\xfe" + MARK.encode()).decode(),
    "another_shape": forged_page_token(MARK),
    "other_types": forged_page_token(1, 2, 3),
    "an_object": base64.urlsafe_b64encode(json.dumps({MARK: MARK}).encode()).decode(),
    "nested_deeply": base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    "huge": "A" * 1_000_000,
}


@pytest.mark.parametrize("bad", BAD_PAGE_TOKENS)
async def test_page_token_that_we_never_gave_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], bad: str
) -> None:
    """It comes from outside, whatever it looks like."""
    call = shared_broker.installs.ListInstalls(
        installs_pb2.ListInstallsRequest(page_token=BAD_PAGE_TOKENS[bad])
    )
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "page_token")


@pytest.mark.parametrize("install_id", ["\0", "\ud800", "é", ""])
async def test_page_token_with_an_impossible_id_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], install_id: str
) -> None:
    """A caller can make a token that looks like ours: its ids must be as good as any others before a query."""
    for each in ("page-1", "page-2"):
        await shared_broker.installed(each)
    request = installs_pb2.ListInstallsRequest(page_size=1)
    page = await shared_broker.installs.ListInstalls(request, timeout=CALL_SECONDS)
    ours = json.loads(base64.urlsafe_b64decode(page.next_page_token))
    forged = forged_page_token(ours[0], install_id, ours[2])
    call = shared_broker.installs.ListInstalls(installs_pb2.ListInstallsRequest(page_token=forged))
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "page_token")


BAD_LISTS: Final = {
    "page_size": installs_pb2.ListInstallsRequest(page_size=-1),
    "state": installs_pb2.ListInstallsRequest(state=99),  # type: ignore[arg-type]  # a newer caller's
    "plugin_id": installs_pb2.ListInstallsRequest(plugin_id=f"{MARK}\n"),
    "company_id": installs_pb2.ListInstallsRequest(company_id=f"{MARK}é"),
}


@pytest.mark.parametrize("field", BAD_LISTS)
async def test_bad_field_of_a_list_is_named(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], field: str
) -> None:
    """A filter that is quietly ignored shows installs that nobody asked for."""
    call = shared_broker.installs.ListInstalls(BAD_LISTS[field])
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), field)


@pytest.mark.parametrize(
    "rpc", ["TokenBroker/GetToken", "TokenBroker/BatchGetTokens", "Installs/DeleteInstall"]
)
async def test_bytes_that_are_no_message_are_the_callers_fault(
    shared_broker: ServedBroker, capfd: pytest.CaptureFixture[str], rpc: str
) -> None:
    """By itself gRPC would answer UNKNOWN without a reason, and write a traceback for each."""
    send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = shared_broker.channel.unary_unary(
        f"/tokenbroker.v1.{rpc}", bytes
    )
    call = send(b"\xff" + MARK.encode())
    assert_invalid(await refused_without_a_trace(shared_broker, capfd, call), "request")
