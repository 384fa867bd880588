"""What the doctor says of files: certificates, keys, the policy, the record."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
import trustme

from broker.adapters import keys as keysets
from broker.adapters.audit import AuditKeys, generate_audit_key
from broker.domain.secret import Secret
from tests.certificates_of_callers import issue
from tests.doctor_lines import FAIL, KEYSET, OK, WARN, findings, only, settings, weights
from tests.tokens_of_callers import Signer, key_set_of
from tests.unit.test_keyset_wrapping import MARK, URI, FakeKms, RefusingKek

DAY: Final = timedelta(days=1)
PERMIT: Final = 'permit (principal == Caller::"spiffe://x", action, resource);'
AUDIT_KEY: Final = generate_audit_key().reveal()


def tls(
    folder: Path, authority: trustme.CA, ends_in: timedelta = 90 * DAY, begins_in: timedelta = -DAY
) -> dict[str, str]:
    """Settings for a certificate of that lifetime."""
    issue(authority, "token-broker", begins_in=begins_in, ends_in=ends_in).write(folder)
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    return settings(
        TLS_CERTIFICATE_FILE=str(folder / "tls.crt"),
        TLS_KEY_FILE=str(folder / "tls.key"),
        TLS_CLIENT_CA_FILE=str(folder / "ca.crt"),
        INSECURE_SERVE_ANYBODY="false",
    )


def test_certificates_that_last_are_fine(tmp_path: Path) -> None:
    """Each with its end, for a calendar."""
    found = findings("certificates", tls(tmp_path, trustme.CA()))
    assert [each.weight for each in found] == [OK, OK, OK]
    assert "TOKEN_BROKER_TLS_CERTIFICATE_FILE ends 20" in found[1].found
    assert "in 89 days" in found[1].found


@pytest.mark.parametrize(
    ("lifetime", "weight", "says"),
    [
        ({"ends_in": 29 * DAY}, WARN, "in 28 days"),
        ({"ends_in": -timedelta(minutes=1)}, FAIL, "has expired"),
        ({"begins_in": DAY, "ends_in": 90 * DAY}, FAIL, "is not valid before"),
    ],
)
def test_certificate_about_to_end_or_out_of_its_time_is_told(
    tmp_path: Path, lifetime: dict[str, timedelta], weight: str, says: str
) -> None:
    """It ends on a weekend otherwise, for every caller at once."""
    found = only("certificates", tls(tmp_path, trustme.CA(), **lifetime), "TLS_CERTIFICATE_FILE ")
    assert found.weight == weight
    assert says in found.found


def test_intermediate_that_ends_first_is_the_end(tmp_path: Path) -> None:
    """A chain holds as long as its weakest link, and nobody looks at that one."""
    authority = trustme.CA()
    variables = tls(tmp_path, authority)
    between = issue(authority, "between", ends_in=2 * DAY)
    with (tmp_path / "tls.crt").open("ab") as chain:
        chain.write(between.certificate)
    assert only("certificates", variables, "TLS_CERTIFICATE_FILE ends").weight is WARN


def test_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    """A renewal that was half copied."""
    variables = tls(tmp_path, trustme.CA())
    (tmp_path / "tls.key").write_bytes(issue(trustme.CA(), "other").key)
    found = only("certificates", variables)
    assert found.weight is FAIL
    assert "must name the private key of the first certificate" in found.found


def test_authorities_of_which_one_has_expired_are_told(tmp_path: Path) -> None:
    """Callers of the old one are refused, and think that the broker is at fault."""
    variables = tls(tmp_path, trustme.CA())
    old = issue(trustme.CA(), "old authority", ends_in=-DAY / 24).certificate
    with (tmp_path / "ca.crt").open("ab") as bundle:
        bundle.write(old)
    found = only("certificates", variables, "TLS_CLIENT_CA_FILE")
    assert found.weight is WARN
    assert "1 of 2 authorities have expired" in found.found
    (tmp_path / "ca.crt").write_bytes(old)
    assert only("certificates", variables, "TLS_CLIENT_CA_FILE").weight is FAIL


def test_without_certificates_there_is_nothing_to_end() -> None:
    """Fine on loopback; elsewhere configuration refuses it."""
    assert only("certificates", settings()).weight is OK


def test_keys_are_named_and_never_shown(tmp_path: Path) -> None:
    """An operator compares ids between replicas."""
    added, new_id = keysets.with_new_key(Secret(KEYSET))
    file = tmp_path / "keyset.json"
    keysets.write_keyset_file(file, added, replace=False)
    variables = settings(KEYSET="", KEYSET_FILE=str(file))
    found = only("keys", variables)
    primary = keysets.TinkCipher(added).primary_key_id
    assert found.weight is OK
    assert f"keys in the keyset: 2; key {primary} seals; key {new_id} is newer" in found.found
    assert "written 0 days ago" in found.found
    assert not any(key["keyData"]["value"] in found.found for key in json.loads(added.reveal())["key"])
    file.chmod(0o644)
    assert only("keys", variables, "everybody on this machine").weight is WARN


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"KEYSET": "canary"}, "is no Tink keyset"),
        ({"KEYSET_KMS_URI": "no-kms://canary"}, "must be kept by a KMS whose URI begins with"),
    ],
)
def test_keyset_that_can_not_be_used_is_told_and_not_quoted(values: dict[str, str], says: str) -> None:
    """It may be a real one with a comma missing."""
    found = only("keys", settings(**values))
    assert found.weight is FAIL
    assert says in found.found
    assert "canary" not in found.found
    assert "see keys" in only("seals", settings(**values)).found


def test_wrapped_keyset_is_opened_by_its_kms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker asks the KMS once, at its start: a permission that is gone shows at the next restart only."""
    module = ModuleType("tink.integration.awskms")
    module.AwsKmsClient = FakeKms  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, module.__name__, module)
    closed = keysets.wrapped(Secret(KEYSET), FakeKms.kek).reveal()
    found = only("keys", settings(KEYSET=closed, KEYSET_KMS_URI=URI))
    assert (found.weight, "unwrapped by the KMS: 1" in found.found) == (OK, True)
    monkeypatch.setattr(FakeKms, "kek", RefusingKek())
    refused = only("keys", settings(KEYSET=closed, KEYSET_KMS_URI=URI))
    assert (refused.weight, "(Refused)" in refused.found) == (FAIL, True)
    assert MARK not in refused.found


def test_policy_that_gives_something_is_named_by_its_version(tmp_path: Path) -> None:
    """Replicas with different policies can be told apart."""
    policy = tmp_path / "policy.cedar"
    policy.write_text(PERMIT)
    found = only("policy", settings(POLICY_FILE=str(policy)))
    assert found.weight is OK
    assert found.found.endswith(": 1 permit, 0 forbid, 0 groups")


@pytest.mark.parametrize(
    "text",
    [
        'forbid (principal == Caller::"spiffe://x", action, resource);',
        f"{PERMIT} forbid (principal, action, resource);",
        'permit (principal in Group::"nobody", action, resource);',
    ],
)
def test_policy_that_gives_nobody_anything_is_told(tmp_path: Path, text: str) -> None:
    """It is right by its grammar, and every call is refused."""
    policy, groups = tmp_path / "policy.cedar", tmp_path / "groups.json"
    policy.write_text(text)
    groups.write_text('{"nobody": [], "somebody": ["spiffe://x"]}')
    variables = settings(POLICY_FILE=str(policy), POLICY_GROUPS_FILE=str(groups))
    found = only("policy", variables)
    assert found.weight is WARN
    assert "gives nobody anything" in found.found
    policy.write_text('permit (principal in Group::"somebody", action, resource);')
    assert only("policy", variables).weight is OK


def test_policy_that_can_not_be_used_is_told_problem_by_problem(tmp_path: Path) -> None:
    """A broker does not start with it."""
    policy = tmp_path / "policy.cedar"
    policy.write_text('permit (principal, action == Action::"No", resource);\npermit (principal);')
    found = findings("policy", settings(POLICY_FILE=str(policy)))
    assert len(found) >= 2
    assert {each.weight for each in found} == {FAIL}


def test_without_a_policy_it_is_said_what_that_means() -> None:
    """Anybody may do everything, or configuration tells what is missing."""
    assert "anybody may do everything" in only("policy", settings()).found


def recorded(place: Path | str, **values: str) -> dict[str, str]:
    """Settings for a record there."""
    return settings(AUDIT_LOG=str(place), AUDIT_KEY=AUDIT_KEY, **values)


def test_record_that_can_be_written_is_fine_and_is_not_begun(tmp_path: Path) -> None:
    """The doctor changes nothing: an empty file would be a trail without a beginning."""
    place = tmp_path / "audit.jsonl"
    key, destination = findings("audit", recorded(place))
    assert (key.weight, destination.weight) == (OK, OK)
    assert AuditKeys(Secret(AUDIT_KEY)).public_key_id in key.found
    assert "GiB are free" in destination.found
    assert list(tmp_path.iterdir()) == []
    place.write_text("line\n")
    assert weights("audit", recorded(place)) == {OK}
    assert place.read_text() == "line\n"


def test_record_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """Nothing is handed out then."""
    assert "is not there" in only("audit", recorded(tmp_path / "no" / "audit"), "AUDIT_LOG").found
    assert "is a folder" in only("audit", recorded(tmp_path), "AUDIT_LOG").found
    (tmp_path / "file").touch()
    assert only("audit", recorded(tmp_path / "file" / "audit"), "AUDIT_LOG").weight is FAIL
    assert only("audit", recorded("/proc/version", AUDIT_SECOND_LOG="-"), "AUDIT_LOG").weight is FAIL


def test_stdout_and_a_pipe_are_places_too(tmp_path: Path) -> None:
    """A pipe is not opened: its reader would see it end."""
    os.mkfifo(tmp_path / "pipe")
    assert weights("audit", recorded("-", AUDIT_SECOND_LOG=str(tmp_path / "pipe"))) == {OK}


@pytest.mark.parametrize(
    ("free_blocks", "free_names", "weight"),
    [(0, 9, FAIL), (10**9, 0, FAIL), (10_000, 9, WARN), (10**9, 9, OK)],
)
def test_disk_that_fills_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_blocks: int, free_names: int, weight: str
) -> None:
    """A full one stops the broker at night."""
    real = os.statvfs(tmp_path)
    disk = list(real)
    disk[1], disk[4], disk[5], disk[7] = 4096, free_blocks, 100, free_names
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(disk))
    assert only("audit", recorded(tmp_path / "audit"), "AUDIT_LOG").weight == weight


def test_audit_key_that_is_none_is_told_and_not_quoted() -> None:
    """It may be a real one, cut off."""
    found = only("audit", settings(AUDIT_LOG="-", AUDIT_KEY="canary"), "AUDIT_KEY")
    assert found.weight is FAIL
    assert "canary" not in found.found


def test_no_record_is_said() -> None:
    """Where anybody is served none is needed."""
    assert "no record is kept" in only("audit", settings()).found


def bearers(keys: Path | str, **values: str) -> dict[str, str]:
    """Settings for bearer tokens, verified by those keys."""
    return settings(JWT_ISSUER="https://issuer", JWT_AUDIENCE="broker", JWT_KEYS=str(keys), **values)


def test_key_set_in_a_file_is_read_and_counted(tmp_path: Path) -> None:
    """Without a key nobody is let in."""
    file = tmp_path / "jwks.json"
    file.write_bytes(key_set_of(Signer.new("ES256").jwk(), Signer.new("ES384", "key-2").jwk()))
    found = only("caller keys", bearers(file))
    assert (found.weight, found.found) == (OK, "keys that can verify bearer tokens: 1 of 2")


def test_key_set_without_a_usable_key_is_told(tmp_path: Path) -> None:
    """A file that is missing, or of the wrong kind, or for algorithms that nobody allowed."""
    file = tmp_path / "jwks.json"
    assert "(file_not_read)" in only("caller keys", bearers(file)).found
    file.write_text('{"keys": []}')
    assert "(no_usable_key)" in only("caller keys", bearers(file)).found
    file.write_bytes(key_set_of(Signer.new("ES384").jwk()))
    found = only("caller keys", bearers(file))
    assert found.weight is FAIL
    assert "they are for ES384" in found.found
    assert "TOKEN_BROKER_JWT_ALGORITHMS" in found.remedy
    assert only("caller keys", bearers(file, JWT_ALGORITHMS="ES384")).weight is OK


def test_key_set_from_where_none_may_come_is_told() -> None:
    """In the clear anybody could put a key into it."""
    assert "must begin with https://" in only("caller keys", bearers("http://example.org/jwks")).found


def test_without_bearer_tokens_no_keys_are_needed() -> None:
    """Said, so that nobody thinks that they were looked at."""
    assert only("caller keys", settings()).weight is OK
