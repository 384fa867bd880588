"""Envoy's webhooks: the signature, both envelopes, and what is wrong with the rest."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.envoy.webhooks import EnvoyWebhookReader
from broker.domain.apps import EnvoyApp
from broker.domain.errors import InvalidField, SignatureRefused
from broker.domain.identifiers import InstallKey
from broker.domain.lifetimes import DEFAULT_LIFETIME
from broker.domain.secret import Secret
from broker.domain.webhooks import MAX_BODY_BYTES, OtherWebhook, RouteWebhook, UninstalledWebhook, Webhook

APP = EnvoyApp("4242", "client-1", Secret("make-believe-secret"))
NAMED_BY_US = EnvoyApp("PLUGIN_ID", "client-1", Secret("make-believe-secret"))
SAMPLES = resources.files("broker.sandbox.simulated_envoy") / "samples"

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def sample(name: str) -> bytes:
    """One of the user's samples."""
    return (SAMPLES / f"{name}_webhook.json").read_bytes()


def sign(body: bytes, app: EnvoyApp = APP) -> str:
    """As Envoy signs."""
    return base64.b64encode(hmac.digest(app.client_secret.reveal().encode(), body, "sha256")).decode()


def read(body: bytes, app: EnvoyApp = APP) -> Webhook:
    """What a webhook says that is signed rightly."""
    return EnvoyWebhookReader().read(app, body, sign(body, app))


def route(auth: object = None, **meta: object) -> bytes:
    """A route webhook; what is named replaces what is documented."""
    documented = {"route": "step-0-callback", "plugin_id": 4242, "install_id": 1000000}
    documented_auth = {"access_token": "ACCESS_TOKEN", "expires_in": 86400, "token_type": "Bearer"}
    return json.dumps(
        {"meta": documented | {"auth": documented_auth if auth is None else auth} | meta}
    ).encode()


def refused_field(body: bytes, app: EnvoyApp = APP) -> str:
    """The field that a rightly signed webhook is refused for."""
    with pytest.raises(InvalidField) as caught:
        read(body, app)
    return caught.value.field


def test_the_documents_route_webhook_is_read() -> None:
    """The user's own sample, in the envelope of the page on public apps."""
    body = sample("route")
    assert read(body, NAMED_BY_US) == RouteWebhook(
        key=InstallKey("PLUGIN_ID", "1000000"),
        company_id="100000",
        access_token=Secret("ACCESS_TOKEN"),
        token_type="Bearer",
        expires_in=timedelta(days=1),
        digest=hashlib.sha256(body).digest(),
    )


def test_the_sdks_validation_webhook_is_read() -> None:
    """The other envelope; the company stands beside `auth` there."""
    webhook = read(sample("validation"))
    assert isinstance(webhook, RouteWebhook)
    assert (webhook.key, webhook.company_id) == (InstallKey("4242", "1000000"), "100000")
    assert webhook.payload == {"site": "HQ", "notify": True}


def test_uninstall_is_read_without_auth_or_payload() -> None:
    """Both may be missing in the event that ends an install."""
    assert read(sample("plugin_uninstalled")) == UninstalledWebhook(
        InstallKey("4242", "1000000"), hashlib.sha256(sample("plugin_uninstalled")).digest()
    )


def test_other_events_ask_for_nothing() -> None:
    """An app may subscribe to any event; not even an install id is needed to ignore one."""
    assert read(b'{"meta":{"event":"entry_sign_in"}}') == OtherWebhook()


@pytest.mark.parametrize(
    "bend",
    [
        lambda _: "",
        lambda signature: signature[:-1],
        lambda signature: signature + "\n",
        lambda signature: " " + signature,
        lambda signature: "sha256=" + signature,
        lambda signature: signature.swapcase(),
        lambda signature: base64.b64decode(signature).hex(),
        lambda _: "s\u00efgnature",
        lambda _: "\udcff",
        lambda _: "A" * 1_000_000,
    ],
)
def test_f26_signature_that_is_not_exactly_right_is_refused(bend: Callable[[str], str]) -> None:
    """Wrong length and non-ASCII made other people's comparisons throw."""
    body = sample("validation")
    with pytest.raises(SignatureRefused):
        EnvoyWebhookReader().read(APP, body, bend(sign(body)))


@given(body=st.binary(), signature=st.text(st.characters(categories=None)))
def test_f26_no_unsigned_body_is_looked_at(body: bytes, signature: str) -> None:
    """The signature is checked before anything else; not one of these bodies is even parsed."""
    with pytest.raises(SignatureRefused):
        EnvoyWebhookReader().read(APP, body, signature)


def test_f26_changed_body_is_refused() -> None:
    """One byte is enough, even one that means nothing in JSON."""
    with pytest.raises(SignatureRefused):
        EnvoyWebhookReader().read(APP, sample("validation") + b" ", sign(sample("validation")))


@pytest.mark.parametrize("previous", [None, Secret("")])
def test_f28_app_with_an_empty_secret_believes_nobody(previous: Secret | None) -> None:
    """Anybody can sign with an empty key."""
    app = EnvoyApp("4242", "client-1", Secret(""), previous)
    with pytest.raises(SignatureRefused):
        read(sample("validation"), app)


def test_f28_old_and_new_secret_are_taken_while_the_secret_is_changed_and_no_third() -> None:
    """Envoy's dashboard and the broker's settings do not change at the same moment, and a webhook is sent again for minutes."""
    body, old, new = sample("validation"), Secret("the old one"), Secret("the new one")
    changing = EnvoyApp("4242", "client-1", new, previous_client_secret=old)
    for secret in (old, new):
        EnvoyWebhookReader().read(changing, body, sign(body, EnvoyApp("4242", "client-1", secret)))
    with pytest.raises(SignatureRefused):
        EnvoyWebhookReader().read(
            changing, body, sign(body, EnvoyApp("4242", "client-1", Secret("a third one")))
        )
    changed = EnvoyApp("4242", "client-1", new)
    with pytest.raises(SignatureRefused):
        EnvoyWebhookReader().read(changed, body, sign(body, EnvoyApp("4242", "client-1", old)))


def test_f29_huge_body_is_refused_unread() -> None:
    """Before its signature is computed, which costs time with its length."""
    body = b" " * (MAX_BODY_BYTES + 1)
    with pytest.raises(InvalidField, match="body must have at most"):
        EnvoyWebhookReader().read(APP, body, "")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b'{"meta":', "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"[" * MAX_BODY_BYTES, "body"),
        (b"{}", "meta"),
        (b'{"meta":null,"request_meta":{}}', "meta"),
        (b'{"meta":{},"meta":{}}', "meta"),
        (b'{"meta":{"plugin_id":4242,"install_id":1}}', "meta.route"),
        (b'{"meta":{"event":7}}', "meta.event"),
        (b'{"meta":{"event":"plugin_uninstalled"}}', "meta.install_id"),
        (route(install_id=None), "meta.install_id"),
        (route(install_id=""), "meta.install_id"),
        (route(install_id=True), "meta.install_id"),
        (route(install_id=1.5), "meta.install_id"),
        (route(install_id="1\n2"), "meta.install_id"),
        (route(install_id="9" * 129), "meta.install_id"),
        (route(install_id=10**4000), "meta.install_id"),
        (route(plugin_id=4343), "meta.plugin_id"),
        (route(plugin_id="4242 "), "meta.plugin_id"),
        (route(plugin_id=[4242]), "meta.plugin_id"),
        (b'{"meta":{"route":"r","install_id":1}}', "meta.auth"),
        (b'{"meta":{"route":"r","install_id":1,"auth":null}}', "meta.auth"),
        (b'{"meta":{"install_id":1,"auth":null}}', "meta.auth"),
        (route(auth="ACCESS_TOKEN"), "meta.auth"),
        (route(auth={}), "meta.auth.access_token"),
        (route(auth={"access_token": ""}), "meta.auth.access_token"),
        (route(auth={"access_token": "a\r\nX: b"}), "meta.auth.access_token"),
    ],
)
def test_f29_what_is_wrong_names_its_field(body: bytes, field: str) -> None:
    """Whoever installs the app, or develops it, must learn what to correct."""
    assert refused_field(body) == field


def test_f29_absent_scopes_are_named_as_the_cause() -> None:
    """`auth: null` is how Envoy says that the app asked for no scopes; a developer won't guess it."""
    with pytest.raises(InvalidField, match="asked for no scopes"):
        read(b'{"meta":{"route":"r","install_id":1,"auth":null}}')


def test_refusal_never_quotes_the_value() -> None:
    """Errors are logged and shown; a token in the wrong place must not follow (P5)."""
    body = route(auth="sensitive", install_id="sensitive\n", plugin_id="sensitive")
    with pytest.raises(InvalidField) as caught:
        read(body)
    assert "sensitive" not in f"{caught.value} {caught.value.__context__!r}"


@given(
    meta=st.dictionaries(st.sampled_from(["route", "event", "auth", "install_id", "company"]), JSON_VALUES)
)
def test_f29_no_signed_body_raises_anything_but_invalid_field(meta: Mapping[str, object]) -> None:
    """Envoy may change its mind about any type; the answer must be a 4xx, not a 500."""
    body = json.dumps({"meta": meta, "payload": meta}).encode()
    for ask in (read,):
        try:
            ask(body)
        except InvalidField:
            continue


@pytest.mark.parametrize("plugin_id", [4242, "4242", None])
def test_plugin_id_may_be_a_number_a_string_or_absent(plugin_id: object) -> None:
    """Envoy's own documents disagree."""
    assert isinstance(read(route(plugin_id=plugin_id)), RouteWebhook)


def test_plugin_id_is_not_compared_where_nobody_told_us_envoys() -> None:
    """The install is then kept under our own name for the app."""
    app = EnvoyApp("default", "client-1", Secret("make-believe-secret"), verify_plugin_id=False)
    webhook = read(route(plugin_id=999), app)
    assert isinstance(webhook, RouteWebhook)
    assert webhook.key == InstallKey("default", "1000000")


@pytest.mark.parametrize("install_id", [1000000, "1000000"])
def test_install_id_is_the_same_as_number_and_string(install_id: object) -> None:
    """Else one install would be kept twice."""
    webhook = read(route(install_id=install_id))
    assert isinstance(webhook, RouteWebhook)
    assert webhook.key == InstallKey("4242", "1000000")


@pytest.mark.parametrize(
    ("auth_company", "meta", "expected"),
    [
        ("1", {"company": {"id": "2"}, "company_id": "3"}, "1"),
        (None, {"company": {"id": 2}, "company_id": "3"}, "2"),
        ([], {"company": "Acme", "company_id": 3}, "3"),
        (None, {"company": None}, ""),
    ],
)
def test_company_is_looked_for_in_each_documented_place(
    auth_company: object, meta: dict[str, object], expected: str
) -> None:
    """The nearest to the token first; none of them costs the webhook."""
    auth = {"access_token": "ACCESS_TOKEN", "company_id": auth_company}
    webhook = read(route(auth=auth, **meta))
    assert isinstance(webhook, RouteWebhook)
    assert (webhook.company_id, webhook.expires_in) == (expected, DEFAULT_LIFETIME)


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b',"payload":{"site":"HQ \\u00e9"}}', {"site": "HQ \u00e9"}),
        (b',"request_body":{"site":1}}', {"site": 1}),
        (b',"payload":null}', None),
        (b',"payload":["site"]}', None),
        (b"}", None),
    ],
)
def test_payload_is_given_back_only_as_an_object(body: bytes, payload: object) -> None:
    """Envoy merges an object into the install's config, and documents nothing else."""
    webhook = read(route()[:-1] + body)
    assert isinstance(webhook, RouteWebhook)
    assert webhook.payload == payload


@pytest.mark.parametrize("value", [b"NaN", b"1e999", b'"\\ud83d"', b'{"a":1,"a":2}'])
def test_payload_that_cannot_be_repeated_is_refused(value: bytes) -> None:
    """Serialising it would fail after the exchange, with a 500."""
    with pytest.raises(InvalidField, match="payload"):
        read(route()[:-1] + b',"payload":{"site":' + value + b"}}")
