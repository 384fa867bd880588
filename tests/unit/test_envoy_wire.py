"""What is read from the answers of Envoy's token endpoint, without any I/O."""

import json
import math
from datetime import UTC, datetime, timedelta
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.envoy import wire
from broker.adapters.envoy.token_fields import LIFETIME_OF_THE_DEAD
from broker.adapters.envoy.wire import GrantType, TokenAnswer
from broker.domain.errors import ClientRefused, GrantRefused, Limited, OutcomeUnknown, ProviderFault
from broker.domain.installs import IssuedTokens
from broker.domain.lifetimes import DEFAULT_LIFETIME, LONGEST_LIFETIME
from broker.domain.secret import Secret

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SAMPLE = resources.files("broker.sandbox.simulated_envoy") / "samples" / "token_response.json"

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def pair(**fields: object) -> bytes:
    """A token answer's body; what is named replaces what is documented."""
    documented: dict[str, object] = {
        "token_type": "Bearer",
        "access_token": "access-token-0001",
        "expires_in": 86400,
        "refresh_token": "refresh-token-0002",
        "refresh_token_expires_in": 2592000,
        "state": None,
        "company_id": "10000",
    }
    return json.dumps(documented | fields).encode()


def read(
    body: bytes, status: int = 200, grant_type: GrantType = GrantType.PLUGIN_INSTALL, **headers: str
) -> IssuedTokens:
    """What an answer says."""
    answer = TokenAnswer(status, headers.get("retry_after"), headers.get("date"), body)
    return wire.read_answer(answer, grant_type=grant_type, requested_at=NOW)


def fault(
    body: bytes, status: int = 200, grant_type: GrantType = GrantType.PLUGIN_INSTALL
) -> tuple[type[ProviderFault], str]:
    """The error that an answer is taken for, and its kind."""
    with pytest.raises(ProviderFault) as caught:
        read(body, status, grant_type)
    return type(caught.value), caught.value.kind


def test_documented_answer_is_read_whole() -> None:
    """The user's own sample is the main case."""
    assert read(SAMPLE.read_bytes()) == IssuedTokens(
        access_token=Secret("{YOUR_ACCESS_TOKEN}"),
        token_type="Bearer",
        requested_at=NOW,
        expires_in=timedelta(days=1),
        refresh_token=Secret("{YOUR_REFRESH_TOKEN}"),
        refresh_token_expires_in=timedelta(days=30),
        company_id="10000",
        minted=True,
    )


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_any_2xx_with_a_pair_is_a_success(status: int) -> None:
    """A pair that was issued is never thrown away for its status."""
    assert read(pair(), status).access_token == Secret("access-token-0001")


@given(body=st.binary() | st.text().map(str.encode) | JSON_VALUES.map(json.dumps).map(str.encode))
def test_f03_no_body_raises_anything_but_a_provider_fault(body: bytes) -> None:
    """Whatever Envoy, or a proxy before it, answers, the attempt must be resolved and not crash."""
    for status in (200, 400, 401, 404, 429, 503):
        for grant_type in GrantType:
            with pytest.raises(ProviderFault):
                read(body, status, grant_type)


@given(cut=st.integers(0, len(pair()) - 1))
def test_f03_truncated_pair_is_an_unknown_outcome(cut: int) -> None:
    """Envoy has acted; half a token must not be stored."""
    assert fault(pair()[:cut]) == (OutcomeUnknown, "not_json")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!doctype html>", "not_json"),
        (b"[" * 100_000, "too_deep"),
        (b'{"nested":' * 100_000, "too_deep"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"\xff" + pair(), "not_utf8"),
        (pair().decode().encode("utf-16"), "not_utf8"),
        (b"\xef\xbb\xbf" + pair(), "not_json"),
        (b'{"access_token":"other",' + pair()[1:], "repeated_token"),
        (b'{"refresh_token":"other",' + pair()[1:], "repeated_token"),
        (b"{}", "no_access_token"),
        (b'{"error":"server_error"}', "error_in_success"),
    ],
)
def test_f03_unreadable_success_is_an_unknown_outcome(body: bytes, kind: str) -> None:
    """Each names itself for the operator, without a word of the body."""
    assert fault(body) == (OutcomeUnknown, kind)


@pytest.mark.parametrize("value", [None, "", " ", 7, [], {}, "a\nb", "t\u00f6ken", "\x7f", "a" * 16_385])
def test_f03_unusable_access_token_is_an_unknown_outcome(value: object) -> None:
    """What can't stand in a header is no token, and may be a way into the header."""
    assert fault(pair(access_token=value)) == (OutcomeUnknown, "no_access_token")


@given(value=JSON_VALUES.filter(lambda value: not isinstance(value, str)) | st.just("") | st.just("\x00"))
def test_f04_without_a_refresh_token_the_pair_is_kept(value: object) -> None:
    """The stored one then stays; an empty one must not overwrite it."""
    assert read(pair(refresh_token=value)).refresh_token is None
    without = {name: field for name, field in json.loads(pair()).items() if name != "refresh_token"}
    assert read(json.dumps(without).encode()).refresh_token is None


@given(seconds=st.integers(1, int(LONGEST_LIFETIME.total_seconds())))
def test_f05_lifetime_that_makes_sense_is_honoured_exactly(seconds: int) -> None:
    """As a number or as a string of one, down to a second."""
    for written in (seconds, str(seconds), float(seconds), f" {seconds} "):
        issued = read(pair(expires_in=written, refresh_token_expires_in=written))
        assert issued.expires_in == issued.refresh_token_expires_in == timedelta(seconds=seconds)


@given(expires_in=JSON_VALUES, refresh_expires_in=JSON_VALUES)
def test_f05_no_lifetime_costs_the_pair(expires_in: object, refresh_expires_in: object) -> None:
    """Whatever stands there, NaN and Infinity too, the tokens are kept and expire within sane bounds."""
    issued = read(pair(expires_in=expires_in, refresh_token_expires_in=refresh_expires_in))
    assert issued.access_token == Secret("access-token-0001")
    assert timedelta(seconds=1) <= issued.expires_in <= LONGEST_LIFETIME
    assert (issued.refresh_token_expires_in or timedelta(0)) <= LONGEST_LIFETIME


@pytest.mark.parametrize(
    ("value", "lifetime"),
    [
        (None, DEFAULT_LIFETIME),
        ("soon", DEFAULT_LIFETIME),
        ("\u0661\u0662", DEFAULT_LIFETIME),
        (True, DEFAULT_LIFETIME),
        (math.nan, DEFAULT_LIFETIME),
        (math.inf, DEFAULT_LIFETIME),
        (1_793_534_400, DEFAULT_LIFETIME),  # a Unix time
        (10**100, DEFAULT_LIFETIME),
        (0, LIFETIME_OF_THE_DEAD),
        (-1, LIFETIME_OF_THE_DEAD),
        ("-86400", LIFETIME_OF_THE_DEAD),
        (0.25, timedelta(seconds=1)),
    ],
)
def test_f05_lifetime_that_makes_no_sense_is_replaced_by_a_cautious_one(
    value: object, lifetime: timedelta
) -> None:
    """Too short costs a refresh; too long hands out a dead token; none at all would refresh at every call."""
    assert read(pair(expires_in=value)).expires_in == lifetime


def test_f05_number_of_ten_thousand_digits_does_not_cost_the_pair() -> None:
    """Python refuses to read one as an integer."""
    body = pair(expires_in=0).replace(b'"expires_in": 0', b'"expires_in": ' + b"9" * 10_000)
    assert read(body).expires_in == DEFAULT_LIFETIME


def test_repeated_field_beside_the_tokens_does_not_cost_the_pair() -> None:
    """Only which token was meant is worth a fresh pair."""
    issued = read(b'{"expires_in":1,"company_id":"other","token_type":"mac",' + pair()[1:])
    assert (issued.expires_in, issued.company_id, issued.token_type) == (DEFAULT_LIFETIME, "", "Bearer")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bearer", "Bearer"),
        ("bearer", "Bearer"),
        (None, "Bearer"),
        (7, "Bearer"),
        ("a b", "Bearer"),
        ("MAC", "MAC"),
    ],
)
def test_token_type_is_bearer_unless_envoy_names_another(value: object, expected: str) -> None:
    """Callers put it into a header: never junk, and never a lie about a scheme they can't use."""
    assert read(pair(token_type=value)).token_type == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("10000", "10000"), (10000, "10000"), (None, ""), (True, ""), (1.5, ""), ("a\n", "")],
)
def test_company_id_is_a_string_or_unknown(value: object, expected: str) -> None:
    """Envoy has it as both, and it is compared with the webhook's."""
    assert read(pair(company_id=value)).company_id == expected


@pytest.mark.parametrize("grant_type", GrantType)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 422])
@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("invalid_grant", GrantRefused),
        ("invalid_client", ClientRefused),
        ("unauthorized_client", ClientRefused),
    ],
)
def test_refusal_in_rfc_6749s_words_is_believed_under_every_status(
    grant_type: GrantType, status: int, code: str, verdict: type[ProviderFault]
) -> None:
    """Envoy's status for a refusal is not documented; the words are."""
    body = json.dumps({"error": code, "error_description": "anything"}).encode()
    assert fault(body, status, grant_type) == (verdict, code)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"error":{"code":7}}', b'{"error":"something_else"}']
)
@pytest.mark.parametrize(
    ("grant_type", "status", "verdict"),
    [
        (GrantType.REFRESH_TOKEN, 400, GrantRefused),
        (GrantType.REFRESH_TOKEN, 401, GrantRefused),
        (GrantType.PLUGIN_INSTALL, 400, OutcomeUnknown),
        (GrantType.PLUGIN_INSTALL, 401, ClientRefused),
        *(
            (grant_type, status, OutcomeUnknown)
            for grant_type in GrantType
            for status in (403, 404, 409, 422)
        ),
    ],
)
def test_refusal_in_other_words_never_condemns_an_install(
    body: bytes, grant_type: GrantType, status: int, verdict: type[ProviderFault]
) -> None:
    """A refresh token that is refused costs a mint; a mint that is refused disables an install for good."""
    assert fault(body, status, grant_type) == (verdict, f"status_{status}")


@pytest.mark.parametrize("code", ["invalid_request", "unsupported_grant_type", "invalid_scope"])
@pytest.mark.parametrize("status", [400, 401])
def test_our_own_mistake_in_a_mint_is_no_refusal(code: str, status: int) -> None:
    """A wrong form, say: the operator must see it, and no install may suffer for it."""
    body = json.dumps({"error": code}).encode()
    assert fault(body, status) == (OutcomeUnknown, code)


@pytest.mark.parametrize(
    ("status", "kind"), [(301, "redirect"), (307, "redirect"), (500, "status_500"), (503, "status_503")]
)
def test_refusal_in_the_body_of_another_status_is_not_looked_at(status: int, kind: str) -> None:
    """A gateway in distress may say anything."""
    assert fault(b'{"error":"invalid_grant"}', status) == (OutcomeUnknown, kind)


def test_429_is_a_limit_whatever_its_body_says() -> None:
    """Nothing was spent, so the refresh token stays good; the wait is Envoy's."""
    with pytest.raises(Limited) as caught:
        read(b'{"error":"invalid_grant"}', 429, GrantType.REFRESH_TOKEN, retry_after="30")
    assert caught.value.retry_after == timedelta(seconds=30)
