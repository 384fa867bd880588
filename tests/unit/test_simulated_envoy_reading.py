"""What the simulated Envoy reads: any bytes at all are understood or refused, and never a surprise."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from broker.domain.secret import Secret
from broker.sandbox.simulated_envoy.behaviour import BehaviourChange
from broker.sandbox.simulated_envoy.clients import AppDirectory, SimulatedApp
from broker.sandbox.simulated_envoy.layers import BehaviourLayers
from broker.sandbox.simulated_envoy.requests import MalformedTokenRequestError, parse_token_request
from broker.sandbox.simulated_envoy.webhooks import loopback_url, sign

CONTENT_TYPES = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "text/plain",
        "",
    ]
)
NAMES = ["grant_type", "install_id", "client_id", "client_secret", "refresh_token"]
PART = st.tuples(st.sampled_from(NAMES), st.binary(max_size=20)).map(
    lambda part: (
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (part[0].encode(), part[1])
    )
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(PART, max_size=5).map(lambda parts: b"".join(parts) + b"--b--\r\n"),
    st.lists(st.sampled_from(NAMES), max_size=5).map(
        lambda names: "&".join(f"{n}=%ff" for n in names).encode()
    ),
)


@given(CONTENT_TYPES, BODIES, st.none() | st.text(st.characters(max_codepoint=255), max_size=30))
def test_any_request_is_understood_or_refused(
    content_type: str, body: bytes, authorization: str | None
) -> None:
    """A fuzzed client must never see a 500, which a broker takes for Envoy being down."""
    headers = {"content-type": content_type} | ({"authorization": authorization} if authorization else {})
    try:
        asked = asyncio.run(parse_token_request(Headers(headers), body))
    except MalformedTokenRequestError:
        return
    assert asked.grant_type


@given(st.integers(1, 5), st.integers(1, 5))
def test_temporary_layer_lasts_for_as_many_requests_as_it_says(for_all: int, for_one: int) -> None:
    """One too many or too few, and a test proves something else than its name says."""
    layers = BehaviourLayers()
    layers.change(None, BehaviourChange(rotation="none", status=500, remaining=for_all))
    layers.change("7", BehaviourChange(status=429, remaining=for_one))
    met = [layers.take("7") for _ in range(12)]
    expected = [429 if i < for_one else 500 if i < for_all else None for i in range(12)]
    assert [behaviour.status for behaviour in met] == expected
    assert [behaviour.rotation for behaviour in met] == [
        "none" if i < for_all else "strict" for i in range(12)
    ]


def test_layer_says_only_what_it_names() -> None:
    """A field set back to its default by name wins over the layer beneath; an unnamed one does not."""
    layers = BehaviourLayers()
    layers.change(None, BehaviourChange(rotation="none", grace_seconds=5))
    layers.change("7", BehaviourChange(rotation="strict"))
    assert (layers.current("7").rotation, layers.current("7").grace_seconds) == ("strict", 5)
    layers.clear("7")
    assert layers.current("7") == layers.current(None)


def test_signature_is_the_one_openssl_makes() -> None:
    """Printf '{"meta":{}}' | openssl dgst -sha256 -hmac make-believe-secret -binary | base64."""
    assert (
        sign(b'{"meta":{}}', Secret("make-believe-secret")) == "MInM4xO3CQbmjKQeSkklNN4yk53svcZJziM4cQ6QMbQ="
    )


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "https://127.9.9.9/x", "http://[::1]:80/", "http://localhost/"]
)
def test_loopback_urls_are_taken(url: str) -> None:
    """Every spelling of this machine that a developer uses."""
    assert loopback_url(url) == url


def test_app_hides_its_secret_and_must_be_unique() -> None:
    """Two apps with one client id could not be told apart."""
    app = SimulatedApp("1", "client", Secret("make-believe-secret"))
    assert "make-believe-secret" not in repr(app)
    with pytest.raises(ValueError, match="unique"):
        AppDirectory([app, SimulatedApp("2", "client", Secret("x"))])
