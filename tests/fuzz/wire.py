"""Answers of Envoy's token endpoint. The input's first line is `status|Retry-After|Date`, the rest is the body."""

from datetime import timedelta
from typing import Final

from broker.adapters.envoy.retry_after import LONGEST_WAIT
from broker.adapters.envoy.wire import GrantType, TokenAnswer, read_answer
from broker.domain.errors import ClientRefused, GrantRefused, Limited, OutcomeUnknown, ProviderFault
from broker.domain.identifiers import checked_id
from broker.domain.installs import IssuedTokens
from broker.domain.lifetimes import LONGEST_LIFETIME
from tests.fakes.clock import NOON
from tests.fuzz.refusals import assert_holds_no_input

ENDS: Final = frozenset({"IssuedTokens", "Limited", "GrantRefused", "ClientRefused", "OutcomeUnknown"})

# h11 lets no other through.
STATUSES: Final = range(200, 1000)
LONGEST_KIND: Final = 32


def try_one(data: bytes) -> str:
    """Read it as the answer to either grant."""
    head, _, body = data.partition(b"\n")
    status, retry_after, date = (head.decode("latin-1").split("|") + [""] * 3)[:3]
    answer = TokenAnswer(_status(status), retry_after or None, date or None, body)
    _end(answer, GrantType.REFRESH_TOKEN)
    return _end(answer, GrantType.PLUGIN_INSTALL)


def _status(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) == len("200") else 0
    return number if number in STATUSES else STATUSES.start


def _end(answer: TokenAnswer, grant_type: GrantType) -> str:
    try:
        issued = read_answer(answer, grant_type=grant_type, requested_at=NOON)
    except ProviderFault as fault:
        _judge_fault(fault, answer)
        return type(fault).__name__
    _judge_issued(issued, answer)
    return "IssuedTokens"


def _judge_fault(fault: ProviderFault, answer: TokenAnswer) -> None:
    assert_holds_no_input(fault)
    assert len(fault.kind) <= LONGEST_KIND
    assert fault.kind.replace("_", "").isalnum()
    assert isinstance(fault, Limited) == (answer.status == 429)
    if isinstance(fault, Limited | OutcomeUnknown):
        assert fault.retry_after is None or timedelta(0) < fault.retry_after <= LONGEST_WAIT
    if isinstance(fault, GrantRefused | ClientRefused) and answer.status >= 500:
        raise AssertionError("a server's own trouble was taken for a refusal")


def _judge_issued(issued: IssuedTokens, answer: TokenAnswer) -> None:
    assert 200 <= answer.status < 300
    for token in filter(None, (issued.access_token, issued.refresh_token)):
        assert token.reveal().isprintable()
        assert token.reveal().isascii()
    assert timedelta(0) < issued.expires_in <= LONGEST_LIFETIME
    lifetime = issued.refresh_token_expires_in
    assert lifetime is None or timedelta(0) < lifetime <= LONGEST_LIFETIME
    assert not issued.company_id or checked_id(issued.company_id, "company_id")
