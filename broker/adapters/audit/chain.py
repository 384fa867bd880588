"""The lines of an audit trail, and how each holds on to the one before it. Pure.

A line is a JSON object in ASCII. It begins with what verification needs and ends with its hash, so that a
verifier works on its bytes as they stand and need not agree with us on how JSON is written:

    {"audit":1,"kind":…,"chain":…,"seq":…,"prev":…, … ,"hash":…}

`hash` is the SHA-256 of all bytes before `,"hash"`; `prev`, the hash of the line before, is among them. Lines
that open a chain, close it or stand as checkpoints have a `signature` behind the hash: it covers the hash, and
through it every line of the chain so far.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from broker.domain.audit import AuditRecord

FORMAT: Final = 1
# Every line begins with it: so it is found among the lines of others, and a torn one is known for what it was.
LINE_START: Final = f'{{"audit":{FORMAT},"kind":"'
# What the first line of a chain holds on to.
NO_HASH: Final = "0" * 64
CHAIN_ID_BYTES: Final = 16
# How many records may stand behind the last signature: what somebody who can write the file could forge.
CHECKPOINT_RECORDS: Final = 1_000
# Of one record, without its place in the chain. No honest caller has such names; what is longer is refused.
MAX_RECORD_CHARACTERS: Final = 8 * 1024
MAX_LINE_BYTES: Final = MAX_RECORD_CHARACTERS + 1024

_SIGNED: Final = "envoy-token-broker audit v1"
# Of a string it makes the JSON string in ASCII, without building anything around it.
_quoted: Final = json.encoder.encode_basestring_ascii
_LINE: Final = re.compile(
    b"(?P<body>"
    + re.escape(LINE_START.encode())
    + rb'(?P<kind>[a-z]+)","chain":"(?P<chain>[0-9a-f]{32})","seq":(?P<seq>[1-9][0-9]{0,17}),'
    rb'"prev":"(?P<prev>[0-9a-f]{64})",[ -~]*),"hash":"(?P<hash>[0-9a-f]{64})"'
    rb'(?:,"signature":"(?P<signature>[0-9a-f]{128})")?}'
)

# Makes a signature in hex.
Sign = Callable[[bytes], str]


class Kind(StrEnum):
    """What a line says."""

    OPENED = "opened"
    RECORD = "record"
    CHECKPOINT = "checkpoint"
    CLOSED = "closed"


_KINDS: Final = {kind.value.encode(): kind for kind in Kind}


class Origin(NamedTuple):
    """Who writes a chain."""

    host: str
    pid: int
    release: str
    public_key_id: str


class Break(NamedTuple):
    """Why a chain follows another of the same process.

    Attributes:
        chain, seq, hash: the last line that is known to be in every sink; "", 0 and NO_HASH if there is none.
        reason: what went wrong with a sink.
    """

    chain: str = ""
    seq: int = 0
    hash: str = NO_HASH
    reason: str = ""


NO_BREAK: Final = Break()


class Chain:
    """Makes the lines of one chain, in order. What it has made counts as written: after a failure, begin another.

    Attributes:
        seq: of its last line; lines count from 1.
        hash: of its last line.
        unsigned: how many records stand behind the last signature.
    """

    def __init__(self, chain_id: str, sign: Sign) -> None:
        self.id = chain_id
        self.seq = 0
        self.hash = NO_HASH
        self.unsigned = 0
        self._sign = sign
        self._record_start = self._start(Kind.RECORD)

    def opened(self, now: datetime, origin: Origin, after: Break = NO_BREAK) -> str:
        """The first line."""
        return self._signed_line(
            Kind.OPENED,
            f"{_time(now)},{_members(origin._asdict())},{_members({'after': after._asdict()})}",
        )

    def records(self, records: Iterable[str], now: datetime) -> str:
        """A line for each of `records`, as `record_members` gave them, and the checkpoints that are due."""
        lines: list[str] = []
        for members in records:
            self.seq += 1
            body = f'{self._record_start}{self.seq},"prev":"{self.hash}",{members}'
            self.hash = _hash(body.encode())
            lines.append(f'{body},"hash":"{self.hash}"}}\n')
            self.unsigned += 1
            if self.unsigned == CHECKPOINT_RECORDS:
                lines.append(self.checkpoint(now))
        return "".join(lines)

    def checkpoint(self, now: datetime) -> str:
        """A signature of all that stands before."""
        return self._signed_line(Kind.CHECKPOINT, _time(now))

    def closed(self, now: datetime) -> str:
        """The last line."""
        return self._signed_line(Kind.CLOSED, _time(now))

    def _signed_line(self, kind: Kind, members: str) -> str:
        self.seq += 1
        body = f'{self._start(kind)}{self.seq},"prev":"{self.hash}",{members}'
        self.hash = _hash(body.encode())
        self.unsigned = 0
        signature = self._sign(_signed_message(self.id, self.seq, self.hash))
        return f'{body},"hash":"{self.hash}","signature":"{signature}"}}\n'

    def _start(self, kind: Kind) -> str:
        return f'{LINE_START}{kind}","chain":"{self.id}","seq":'


def record_members(record: AuditRecord) -> str:
    """What a record's line says beside its place in the chain, as JSON members in ASCII."""
    caller, subject = record.caller, record.subject
    return (
        f'{_time(record.at)},"request_id":{_quoted(record.request_id)},"trace_id":{_quoted(record.trace_id)},'
        f'"caller":{_quoted(caller.name)},"known_by":{_quoted(caller.known_by)},'
        f'"address":{_quoted(record.address)},"operation":{_quoted(record.operation)},'
        f'"plugin_id":{_quoted(subject.plugin_id)},"install_id":{_quoted(subject.install_id)},'
        f'"company_id":{_quoted(subject.company_id)},"generation":{record.generation:d},'
        f'"outcome":{_quoted(record.outcome)},"policy_version":{_quoted(record.policy_version)},'
        f'"token_fingerprint":{_quoted(record.token_fingerprint)}'
    )


class Line(NamedTuple):
    """What stands in a line, as far as its chain is concerned; nothing of it is believed yet.

    Attributes:
        signature: b"" of a record, which has none.
        body: the bytes that `hash` is about.
    """

    kind: Kind
    chain: str
    seq: int
    prev: str
    hash: str
    signature: bytes
    body: bytes

    @property
    def fits_its_hash(self) -> bool:
        """Whether nobody has changed it, or has changed its hash too."""
        return _hash(self.body) == self.hash

    @property
    def signed_message(self) -> bytes:
        """What its signature should sign."""
        return _signed_message(self.chain, self.seq, self.hash)


def parse_line(raw: bytes) -> Line | None:
    """The line that stands in `raw`, which is without its newline; None if it is no line of a trail."""
    match = _LINE.fullmatch(raw)
    if match is None:
        return None
    kind = _KINDS.get(match["kind"])
    if kind is None or (kind is Kind.RECORD) != (match["signature"] is None):
        return None
    return Line(
        kind=kind,
        chain=match["chain"].decode(),
        seq=int(match["seq"]),
        prev=match["prev"].decode(),
        hash=match["hash"].decode(),
        signature=bytes.fromhex((match["signature"] or b"").decode()),
        body=match["body"],
    )


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _signed_message(chain_id: str, seq: int, own_hash: str) -> bytes:
    return f"{_SIGNED}\n{chain_id}\n{seq}\n{own_hash}\n".encode()


def _time(at: datetime) -> str:
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return f'"time":"{at.isoformat(timespec="microseconds")}"'


def _members(values: dict[str, object]) -> str:
    return json.dumps(values, ensure_ascii=True, separators=(",", ":"))[1:-1]
