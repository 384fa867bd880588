"""What is written to Envoy's token endpoint, without any I/O."""

import base64
import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.envoy import wire
from broker.adapters.envoy.wire import ClientAuthentication, Grant, RequestForm, TokenAnswer
from broker.domain.apps import EnvoyApp
from broker.domain.secret import Secret

APP = EnvoyApp("4242", "client-1", Secret("make believe & secret"))
MINT = Grant.mint("1000000")
REFRESH = Grant.refresh(Secret("refresh-token-0001"))


def request(
    form: RequestForm, authentication: ClientAuthentication, grant: Grant = MINT
) -> wire.TokenRequest:
    """A request with a known boundary."""
    return wire.build_request(form, authentication, APP, grant, boundary="b0undary")


def test_multipart_request_is_the_users_document() -> None:
    """The default must be, byte for byte, what the documented curl --form sends."""
    sent = request(RequestForm.MULTIPART, ClientAuthentication.BODY)
    assert sent.headers["Content-Type"] == "multipart/form-data; boundary=b0undary"
    fields = [
        ("client_id", "client-1"),
        ("client_secret", "make believe & secret"),
        ("install_id", "1000000"),
        ("grant_type", "plugin_install"),
    ]
    parts = [
        f'--b0undary\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    assert sent.content.decode() == "".join(parts) + "--b0undary--\r\n"


def test_urlencoded_request_carries_every_field_once() -> None:
    """RFC 6749 section 4.1.3's form, with a secret that needs escaping."""
    sent = request(RequestForm.URLENCODED, ClientAuthentication.BODY, REFRESH)
    assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qsl(sent.content.decode(), strict_parsing=True) == [
        ("client_id", "client-1"),
        ("client_secret", "make believe & secret"),
        ("refresh_token", "refresh-token-0001"),
        ("grant_type", "refresh_token"),
    ]


def test_json_with_basic_is_what_the_node_sdk_sends() -> None:
    """Its axios call puts id and secret unescaped into the header, and nothing of them into the body."""
    sent = request(RequestForm.JSON, ClientAuthentication.BASIC)
    assert json.loads(sent.content) == {"install_id": "1000000", "grant_type": "plugin_install"}
    scheme, _, credentials = sent.headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials)) == ("Basic", b"client-1:make believe & secret")


@pytest.mark.parametrize("form", RequestForm)
def test_basic_keeps_the_credentials_out_of_the_body(form: RequestForm) -> None:
    """RFC 6749 section 2.3: a client must not use two ways of authentication in one request."""
    sent = request(form, ClientAuthentication.BASIC)
    assert b"client" not in sent.content
    assert "Authorization" not in request(form, ClientAuthentication.BODY).headers


@pytest.mark.parametrize("form", RequestForm)
@pytest.mark.parametrize("authentication", ClientAuthentication)
def test_secrets_show_in_no_repr(form: RequestForm, authentication: ClientAuthentication) -> None:
    """A request, grant or answer that slips into a log must not take a secret along (P5)."""
    shown = repr(
        [request(form, authentication, REFRESH), REFRESH, TokenAnswer(200, None, None, b"access-token-0001")]
    )
    encoded = base64.b64encode(b"client-1:make believe & secret").decode()
    for secret in ("make believe", "refresh-token", "access-token", encoded):
        assert secret not in shown


@given(value=st.text())
def test_no_value_breaks_the_writing_of_a_request(value: str) -> None:
    """An encoding error would quote the secret; what is no text is sent, and refused by Envoy."""
    app = EnvoyApp("4242", value, Secret(value))
    for form in RequestForm:
        for authentication in ClientAuthentication:
            sent = wire.build_request(form, authentication, app, Grant.refresh(Secret(value)), boundary="b")
            assert sent.content
