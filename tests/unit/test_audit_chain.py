"""Lines of the audit trail: one record, one line, in JSON that anybody can read."""

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.audit.chain import (
    CHECKPOINT_RECORDS,
    MAX_LINE_BYTES,
    MAX_RECORD_CHARACTERS,
    NO_HASH,
    Chain,
    Kind,
    Origin,
    parse_line,
    record_members,
)
from broker.adapters.audit.keys import AuditKeys, generate_audit_key
from broker.domain.audit import AuditRecord
from broker.domain.callers import Caller, KnownBy, Operation, Subject

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
ORIGIN = Origin("a-host", 7, "1.2.3", "0123456789abcdef")
KEYS = AuditKeys(generate_audit_key())
# Half of a surrogate pair too: it comes in by JSON, and UTF-8 can't write it.
ANY_TEXT = st.text(st.characters(exclude_categories=()))

ANY_RECORD = st.builds(
    AuditRecord,
    at=st.datetimes(timezones=st.just(UTC)),
    request_id=ANY_TEXT,
    trace_id=ANY_TEXT,
    caller=st.builds(Caller, ANY_TEXT, st.sampled_from(KnownBy)),
    address=ANY_TEXT,
    operation=st.sampled_from(Operation),
    subject=st.builds(Subject, ANY_TEXT, ANY_TEXT, ANY_TEXT),
    generation=st.integers(0),
    outcome=ANY_TEXT,
    policy_version=ANY_TEXT,
    token_fingerprint=ANY_TEXT,
)
RECORD = AuditRecord(
    at=NOON,
    request_id="request-1",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    caller=Caller("spiffe://example.org/visitors", KnownBy.CERTIFICATE),
    address="ipv4:192.0.2.7:50123",
    operation=Operation.GET_TOKEN,
    subject=Subject("5024", "96931", "110090"),
    generation=17,
    outcome="ok",
    policy_version="p-1",
    token_fingerprint="f" * 32,
)


def new_chain() -> Chain:
    """One that is open."""
    chain = Chain("ab" * 16, KEYS.sign)
    chain.opened(NOON, ORIGIN)
    return chain


@given(ANY_RECORD)
def test_f47_record_is_one_line_of_visible_ascii_and_says_what_it_said(record: AuditRecord) -> None:
    """Newlines, ANSI codes and quotes in an id neither make a line of their own, nor move a reader's terminal."""
    written = new_chain().records([record_members(record)], NOON)
    assert written.endswith("\n")
    assert all(" " <= character <= "~" for character in written[:-1])
    read = json.loads(written)
    assert read["time"] == record.at.isoformat(timespec="microseconds")
    assert (read["caller"], read["known_by"]) == record.caller
    assert (read["plugin_id"], read["install_id"], read["company_id"]) == record.subject
    for name in ("request_id", "trace_id", "address", "operation", "generation", "outcome"):
        assert read[name] == getattr(record, name)
    assert (read["policy_version"], read["token_fingerprint"]) == (
        record.policy_version,
        record.token_fingerprint,
    )


def test_line_says_everything_in_the_documented_order() -> None:
    """docs/audit.md has the table; programs were written by it."""
    read = json.loads(new_chain().records([record_members(RECORD)], NOON))
    assert list(read) == [
        "audit", "kind", "chain", "seq", "prev", "time", "request_id", "trace_id", "caller", "known_by", "address",
        "operation", "plugin_id", "install_id", "company_id", "generation", "outcome", "policy_version",
        "token_fingerprint", "hash",
    ]  # fmt: skip
    assert (read["audit"], read["kind"], read["chain"], read["seq"]) == (1, "record", "ab" * 16, 2)
    assert (read["time"], read["generation"]) == ("2026-03-14T12:00:00.000000+00:00", 17)


def test_time_is_utc_whatever_the_record_was_given_in() -> None:
    """A trail is read beside others."""
    later = NOON.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert json.loads("{" + record_members(AuditRecord(*_values(later))) + "}")["time"].startswith(
        "2026-03-14T12:00"
    )


def _values(at: datetime) -> list[Any]:
    return [at, *(getattr(RECORD, name) for name in RECORD.__slots__[1:])]


def test_each_line_holds_on_to_the_one_before() -> None:
    """From the first, which holds on to nothing, to the last."""
    chain = Chain("ab" * 16, KEYS.sign)
    text = chain.opened(NOON, ORIGIN) + chain.records([record_members(RECORD)] * 3, NOON)
    text += chain.checkpoint(NOON) + chain.closed(NOON)
    lines = [parse_line(line) for line in text.encode().splitlines()]
    known = [line for line in lines if line is not None]
    assert [line.kind for line in known] == [Kind.OPENED, *[Kind.RECORD] * 3, Kind.CHECKPOINT, Kind.CLOSED]
    assert [line.seq for line in known] == [1, 2, 3, 4, 5, 6]
    assert known[0].prev == NO_HASH
    assert all(after.prev == before.hash for before, after in pairwise(known))
    assert all(line.fits_its_hash for line in known)


def test_checkpoint_stands_behind_so_many_records_even_within_one_batch() -> None:
    """What no signature covers could be forged by who can write the file; no batch may make it more."""
    lines = new_chain().records([record_members(RECORD)] * (2 * CHECKPOINT_RECORDS + 1), NOON).splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert [place for place, kind in enumerate(kinds) if kind == "checkpoint"] == [
        CHECKPOINT_RECORDS,
        2 * CHECKPOINT_RECORDS + 1,
    ]


def test_longest_line_can_be_verified() -> None:
    """Whatever is taken must be read again within the verifier's bound."""
    line = new_chain().records(["x" * MAX_RECORD_CHARACTERS], NOON)
    assert len(line) < MAX_LINE_BYTES
