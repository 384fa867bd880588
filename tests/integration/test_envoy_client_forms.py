"""The Envoy client against the simulated Envoy: every form, both grants, and the faults it can play."""

from datetime import timedelta
from typing import Any

import pytest

from broker.adapters.clock import SteadyClock
from broker.adapters.envoy.client import EnvoyClient
from broker.adapters.envoy.wire import ClientAuthentication, RequestForm
from broker.domain.apps import EnvoyApp
from broker.domain.errors import ClientRefused, GrantRefused, Limited, OutcomeUnknown, ProviderFault
from broker.domain.secret import Secret
from tests.integration.served_envoy import APP as SIMULATED_APP
from tests.integration.served_envoy import ServedEnvoy, served_envoy

APP = EnvoyApp(SIMULATED_APP.plugin_id, SIMULATED_APP.client_id, SIMULATED_APP.client_secret)
INSTALL_ID = "1000000"
CLOCK = SteadyClock()
PATIENT = timedelta(seconds=30)


def client(
    envoy: ServedEnvoy,
    form: RequestForm = RequestForm.MULTIPART,
    authentication: ClientAuthentication = ClientAuthentication.BODY,
) -> EnvoyClient:
    """A client of the simulated Envoy."""
    url = f"http://127.0.0.1:{envoy.port}/oauth2/token"
    return EnvoyClient(url, clock=CLOCK, form=form, authentication=authentication)


@pytest.mark.parametrize("form", RequestForm)
@pytest.mark.parametrize("authentication", ClientAuthentication)
async def test_every_form_mints_and_refreshes(
    form: RequestForm, authentication: ClientAuthentication
) -> None:
    """Envoy's documents and its own clients differ; whichever is configured is the one that is sent."""
    async with served_envoy() as envoy:
        await envoy.install(INSTALL_ID, plugin_id=APP.plugin_id)
        endpoint = client(envoy, form, authentication)
        minted = await endpoint.mint(APP, INSTALL_ID, CLOCK.now() + PATIENT)
        assert minted.refresh_token is not None
        refreshed = await endpoint.refresh(APP, minted.refresh_token, CLOCK.now() + PATIENT)
        assert refreshed.access_token != minted.access_token
        assert await envoy.is_alive(refreshed.access_token.reveal())
        assert (refreshed.company_id, refreshed.expires_in) == ("100000", timedelta(days=1))
        sent = [(entry["form"], entry["credentials"], entry["grant_type"]) for entry in await envoy.ledger()]
        assert sent == [
            (form.value, authentication.value, "plugin_install"),
            (form.value, authentication.value, "refresh_token"),
        ]


@pytest.mark.parametrize(
    ("behaviour", "expected", "kind"),
    [
        ({"refuse": "grant"}, GrantRefused, "invalid_grant"),
        ({"refuse": "grant", "refusal_status": 401}, GrantRefused, "invalid_grant"),
        ({"refuse": "client"}, ClientRefused, "invalid_client"),
        ({"status": 429}, Limited, "rate_limited"),
        ({"status": 503, "status_after_processing": True}, OutcomeUnknown, "status_503"),
        ({"status": 403}, OutcomeUnknown, "status_403"),
        ({"status": 307}, OutcomeUnknown, "redirect"),
        ({"cut": "before_processing"}, OutcomeUnknown, "protocol_error"),
        ({"cut": "after_processing"}, OutcomeUnknown, "protocol_error"),
        ({"cut": "mid_answer"}, OutcomeUnknown, "protocol_error"),
        ({"body": "truncated"}, OutcomeUnknown, "not_json"),
        ({"body": "not_json"}, OutcomeUnknown, "not_json"),
        ({"body": "huge", "huge_mebibytes": 8}, OutcomeUnknown, "answer_too_large"),
        ({"body": "deeply_nested"}, OutcomeUnknown, "answer_too_large"),
        ({"body": "duplicate_keys"}, OutcomeUnknown, "repeated_token"),
        ({"omit": ["access_token"]}, OutcomeUnknown, "no_access_token"),
    ],
)
async def test_each_fault_is_taken_for_what_it_is(
    behaviour: dict[str, Any], expected: type[ProviderFault], kind: str
) -> None:
    """The whole protocol hangs on this verdict; and each asks Envoy once, never twice."""
    async with served_envoy() as envoy:
        await envoy.install(INSTALL_ID, plugin_id=APP.plugin_id)
        await envoy.behave(**behaviour)
        with pytest.raises(ProviderFault) as caught:
            await client(envoy).mint(APP, INSTALL_ID, CLOCK.now() + PATIENT)
        assert (type(caught.value), caught.value.kind) == (expected, kind)
        assert len(await envoy.ledger()) == 1


async def test_wrong_client_secret_is_the_apps_fault() -> None:
    """Not the install's: the operator must act, not the company."""
    app = EnvoyApp(APP.plugin_id, APP.client_id, Secret("not-the-secret"))
    async with served_envoy() as envoy:
        await envoy.install(INSTALL_ID, plugin_id=APP.plugin_id)
        with pytest.raises(ClientRefused):
            await client(envoy).mint(app, INSTALL_ID, CLOCK.now() + PATIENT)


@pytest.mark.parametrize("value", ["NaN", "soon", -1, None, 10**30, [], True])
async def test_f05_bad_lifetime_does_not_cost_the_pair(value: object) -> None:
    """Over the real wire too: the pair that came is alive, and is kept."""
    async with served_envoy() as envoy:
        await envoy.install(INSTALL_ID, plugin_id=APP.plugin_id)
        await envoy.behave(overrides={"expires_in": value})
        issued = await client(envoy).mint(APP, INSTALL_ID, CLOCK.now() + PATIENT)
        assert await envoy.is_alive(issued.access_token.reveal())
        assert issued.refresh_token is not None
