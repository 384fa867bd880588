"""Who gets in, what they get, and that it is on record: a whole broker with certificates, a policy and an audit trail."""

import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from broker.api.callers import NOT_FOUND_TAKES
from broker.domain.secret import Secret
from broker.offline import audit_trails
from broker.sandbox.secured import AUDIT_KEY_FILE, OPERATOR, SERVICE, STRANGER
from tests.eventually import eventually
from tests.integration.refusals import Refusal, read_refusal, refusal_of
from tests.integration.secured_broker import CallerAtTheDoor, SecuredBroker, secured_broker
from tests.integration.served_broker import INSTALL_ID
from tests.integration.served_envoy import ServedEnvoy
from tests.tokens_of_callers import AUDIENCE, ISSUER, SUBJECT, Signer, claims, key_set_of
from tokenbroker.v1 import installs_pb2

UNKNOWN_ID: Final = "7777777"
STRANGER_MAY: Final = """
permit (principal == Caller::"spiffe://sandbox/stranger", action == Action::"GetToken", resource in App::"4242");
"""
SUBJECT_MAY: Final = f"""
permit (principal == Caller::"{SUBJECT}", action == Action::"GetToken", resource in App::"4242");
"""


@pytest.fixture
async def secured(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> AsyncIterator[SecuredBroker]:
    """A broker behind mutual TLS, with one install."""
    async with secured_broker(simulated_envoy, database, tmp_path) as broker:
        await broker.served.installed()
        yield broker


def on_record(path: Path) -> list[dict[str, Any]]:
    """What callers did, by the record."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "record"]


def seen_by_the_caller(refusal: Refusal) -> tuple[object, ...]:
    """All that an error tells, save where and when it was told."""
    return (
        refusal.code,
        refusal.reason,
        refusal.field,
        refusal.message,
        refusal.violations,
        refusal.retry_after,
    )


async def timed_refusal(caller: CallerAtTheDoor, install_id: str) -> tuple[Refusal, float]:
    """How GetToken is refused, and after how many seconds."""
    began = time.monotonic()
    refusal = await refusal_of(caller.get_token(install_id))
    return refusal, time.monotonic() - began


async def test_caller_that_the_policy_knows_gets_its_token_and_that_is_on_record(
    secured: SecuredBroker,
) -> None:
    """P7, from outside: by the time that the token is here, the line is there."""
    async with secured.caller(SERVICE) as caller:
        reply = await caller.get_token(INSTALL_ID)
        (record,) = on_record(secured.audit_log)
    assert await secured.served.envoy.is_alive(reply.access_token)
    assert (record["caller"], record["known_by"]) == ("spiffe://sandbox/checkout", "certificate")
    assert (record["operation"], record["outcome"], record["generation"]) == ("GetToken", "OK", 1)
    assert record["address"].startswith("ipv4:127.0.0.1:")
    assert reply.access_token not in secured.audit_log.read_text()


async def test_valid_certificate_without_a_policy_line_gets_what_an_unknown_install_gets(
    secured: SecuredBroker,
) -> None:
    """P6: to the byte, and as long. Also where the token lies ready in memory, as it does after another's call."""
    async with secured.caller(SERVICE) as known, secured.caller(STRANGER) as stranger:
        await known.get_token(INSTALL_ID)
        forbidden, forbidden_took = await timed_refusal(stranger, INSTALL_ID)
        unknown, unknown_took = await timed_refusal(stranger, UNKNOWN_ID)
    assert (forbidden.code, forbidden.reason) == (grpc.StatusCode.NOT_FOUND, "INSTALL_NOT_FOUND")
    assert seen_by_the_caller(forbidden) == seen_by_the_caller(unknown)
    assert min(forbidden_took, unknown_took) >= NOT_FOUND_TAKES.total_seconds()
    outcomes = [record["outcome"] for record in on_record(secured.audit_log)]
    assert outcomes == ["OK", "DENIED", "INSTALL_NOT_FOUND"]


async def test_each_caller_gets_what_is_its_own_business_and_no_more(secured: SecuredBroker) -> None:
    """A service deletes nothing, an operator reads no token."""
    delete = installs_pb2.DeleteInstallRequest(install_id=INSTALL_ID)
    async with secured.caller(SERVICE) as service, secured.caller(OPERATOR) as operator:
        assert (await refusal_of(service.installs.DeleteInstall(delete))).reason == "INSTALL_NOT_FOUND"
        assert (await refusal_of(operator.get_token(INSTALL_ID))).reason == "INSTALL_NOT_FOUND"
        page = await operator.installs.ListInstalls(installs_pb2.ListInstallsRequest())
        assert [install.install_id for install in page.installs] == [INSTALL_ID]
        empty = await service.installs.ListInstalls(installs_pb2.ListInstallsRequest())
        assert list(empty.installs) == []
        await service.get_token(INSTALL_ID)
        await operator.installs.DeleteInstall(delete)


async def test_f46_caller_without_a_certificate_does_not_get_in(secured: SecuredBroker) -> None:
    """Not even as far as an error of the broker's."""
    async with secured.caller(None) as nobody:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await nobody.get_token(INSTALL_ID)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert on_record(secured.audit_log) == []


async def test_changed_policy_is_in_force_without_a_restart_and_a_broken_one_is_not(
    secured: SecuredBroker,
) -> None:
    """A right that is taken is gone for the tokens in memory, too; a slip of the pen takes nobody's."""
    good = secured.policy.read_text()
    async with secured.caller(SERVICE) as service, secured.caller(STRANGER) as stranger:
        await service.get_token(INSTALL_ID)
        secured.policy.write_text(good + STRANGER_MAY)
        await eventually(lambda: gets_a_token(stranger))
        secured.policy.write_text("permit (principal, action, reso")
        await eventually(lambda: remarks(secured, "the policy file is broken"))
        assert await gets_a_token(service)
        secured.policy.write_text(STRANGER_MAY)
        await eventually(lambda: is_refused(service))
        assert await gets_a_token(stranger)


async def gets_a_token(caller: CallerAtTheDoor) -> bool:
    """Whether GetToken answers with one."""
    try:
        return bool((await caller.get_token(INSTALL_ID)).access_token)
    except grpc.aio.AioRpcError as error:
        if read_refusal(error).reason != "INSTALL_NOT_FOUND":
            raise
        return False


async def is_refused(caller: CallerAtTheDoor) -> bool:
    """Whether GetToken does not."""
    return not await gets_a_token(caller)


async def remarks(secured: SecuredBroker, text: str) -> bool:
    """Whether /readyz says so."""
    answer = await secured.served.http.get("/readyz")
    return answer.status_code == 200 and text in answer.text


async def test_f43_record_that_can_not_be_written_lets_no_token_out_and_readiness_says_so(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """A full disk, from outside. Other errors are told as ever."""
    async with secured_broker(
        simulated_envoy, database, tmp_path, ready=False, AUDIT_LOG="/dev/full"
    ) as broker:
        await broker.served.installed()
        async with broker.caller(SERVICE) as caller:
            refusal = await refusal_of(caller.get_token(INSTALL_ID))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")
            assert refusal.retry_after is not None
            assert (await refusal_of(caller.get_token(UNKNOWN_ID))).reason == "INSTALL_NOT_FOUND"
        answer = await broker.served.http.get("/readyz")
        assert (answer.status_code, "the audit trail can't be written" in answer.text) == (503, True)


async def test_record_of_a_whole_broker_verifies(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """From its first line to the signed last one; and a line that is missing is missed."""
    async with secured_broker(simulated_envoy, database, tmp_path) as broker:
        await broker.served.installed()
        async with broker.caller(SERVICE) as caller:
            for _ in range(3):
                await caller.get_token(INSTALL_ID)
    trail = broker.audit_log.read_bytes()
    lines = trail.splitlines(keepends=True)
    assert problems_of(tmp_path, trail) == []
    assert problems_of(tmp_path, b"".join([*lines[:2], *lines[3:]])) != []


def problems_of(folder: Path, trail: bytes) -> list[str]:
    """What `audit verify` finds."""
    secret = Secret((folder / AUDIT_KEY_FILE).read_text())
    key = audit_trails.PublicKey.parse(audit_trails.AuditKeys(secret).public_key)
    findings = audit_trails.verify_trail([("trail", io.BytesIO(trail))], [key])
    return [finding.text for finding in findings if finding.weight is audit_trails.Weight.PROBLEM]


async def test_service_account_token_opens_the_door_for_whom_it_names(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """TLS without client certificates, and a bearer token with each call, as from a pod of Kubernetes."""
    signer = Signer.new()
    async with secured_broker(
        simulated_envoy,
        database,
        tmp_path,
        ready=True,
        **by_bearer_token(tmp_path, signer, TLS_CLIENT_CA_FILE=""),
    ) as broker:
        broker.policy.write_text(SUBJECT_MAY)
        await broker.served.installed()
        async with broker.caller(None) as door:
            good = door.bearing(signer.sign(claims_now()))
            await eventually(lambda: gets_a_token(good))
            for bad in (
                door,
                door.bearing(Secret("x.y.z")),
                door.bearing(signer.sign(claims_now(aud="another"))),
            ):
                refusal = await refusal_of(bad.get_token(INSTALL_ID))
                assert (refusal.code, refusal.reason) == (
                    grpc.StatusCode.UNAUTHENTICATED,
                    "CALLER_UNAUTHENTICATED",
                )
    assert {record["caller"] for record in on_record(broker.audit_log)} == {SUBJECT}


async def test_where_both_are_asked_for_a_token_alone_or_a_certificate_alone_opens_nothing(
    simulated_envoy: ServedEnvoy, database: str, tmp_path: Path
) -> None:
    """A token that was stolen is worth nothing off the mesh."""
    signer = Signer.new()
    variables = by_bearer_token(tmp_path, signer)
    async with secured_broker(simulated_envoy, database, tmp_path, ready=True, **variables) as broker:
        broker.policy.write_text(SUBJECT_MAY)
        await broker.served.installed()
        token = signer.sign(claims_now())
        async with broker.caller(STRANGER) as certified, broker.caller(None) as uncertified:
            await eventually(lambda: gets_a_token(certified.bearing(token)))
            assert (await refusal_of(certified.get_token(INSTALL_ID))).reason == "CALLER_UNAUTHENTICATED"
            with pytest.raises(grpc.aio.AioRpcError):
                await uncertified.bearing(token).get_token(INSTALL_ID)


def by_bearer_token(folder: Path, signer: Signer, **more: str) -> dict[str, str]:
    """Settings of a broker that takes the signer's tokens."""
    keys = folder / "jwks.json"
    keys.write_bytes(key_set_of(signer.jwk()))
    asked = {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE, "JWT_KEYS": str(keys), "JWT_ALGORITHMS": "ES256"}
    return asked | more


def claims_now(**changes: object) -> dict[str, object]:
    """What a good token says, now."""
    now = int(time.time())
    return claims(iat=now, nbf=now, exp=now + 600, **changes)
