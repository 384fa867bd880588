"""Verifies an audit trail from its lines' bytes. Pure: it reads open files, and needs public keys alone.

Each chain must begin at its `opened` line, count up by one, and hold on to itself by hashes; signatures must be
those of a given key. What is wrong is a problem. What a kill explains as well as a hand is a remark: a
chain without its end, a torn line where a chain was broken off.

A problem does not hide those behind it: the chain is taken up again at the next line. It takes memory for each
chain, and for the lines of it that no signature covers yet, which are at most `CHECKPOINT_RECORDS`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO, Final, NamedTuple

from broker.adapters.audit.chain import (
    CHECKPOINT_RECORDS,
    LINE_START,
    MAX_LINE_BYTES,
    NO_HASH,
    Kind,
    Line,
    parse_line,
)
from broker.adapters.audit.keys import PublicKey

# Who sees so many need not see more; and a file that is no trail must not fill the memory.
MAX_PROBLEMS: Final = 100

_START: Final = LINE_START.encode()
_NEWLINE: Final = b"\n"
_TOO_LONG: Final = b"\0" + _NEWLINE


class Weight(StrEnum):
    """What a finding means. A summary is said of each chain, whatever was found."""

    PROBLEM = "problem"
    REMARK = "remark"
    SUMMARY = "chain"


class Place(NamedTuple):
    """Where a line stands; lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Finding(NamedTuple):
    """One thing to say of a trail, for a person."""

    weight: Weight
    place: Place
    text: str


def verify_trail(
    files: Iterable[tuple[str, BinaryIO]], public_keys: Sequence[PublicKey], *, interleaved: bool = False
) -> Iterator[Finding]:
    """What is to be said of the trail in `files`, the oldest first, each with its name.

    All is well if no finding is a problem. `interleaved`: several processes wrote to one file.
    """
    verification = _Verification(public_keys, interleaved=interleaved)
    problems, place = 0, Place("", 0)
    for name, file in files:
        for number, raw in enumerate(_lines(file), start=1):
            place = Place(name, number)
            for finding in verification.take(raw, place):
                yield finding
                problems += finding.weight is Weight.PROBLEM
            if problems >= MAX_PROBLEMS:
                yield _problem(place, "so many problems: nothing behind this line was looked at")
                return
    yield from verification.end(place)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines with their newlines. One that is too long is read in pieces, and is none."""
    while raw := file.readline(MAX_LINE_BYTES):
        if len(raw) < MAX_LINE_BYTES:
            yield raw
            continue
        while raw and not raw.endswith(_NEWLINE):
            raw = file.readline(MAX_LINE_BYTES)
        yield _TOO_LONG


@dataclass(slots=True)
class _Chain:
    """How far a chain has come. `hash` is None behind a line that can't be believed."""

    id: str
    opened_at: Place
    last: Place
    seq: int
    hash: str | None
    origin: str = "unknown"
    ending: str = ""
    records: int = 0
    unsigned: list[str] = field(default_factory=list)

    def move_to(self, line: Line, place: Place) -> None:
        self.seq, self.hash, self.last = line.seq, line.hash, place

    def hash_at(self, seq: int) -> str | None:
        """The hash of one of the last lines; None if a signature vouches for it."""
        behind = self.seq - seq
        if behind == 0:
            return self.hash
        return self.unsigned[-1 - behind] if behind < len(self.unsigned) else None


class _Verification:
    """Takes lines in order."""

    def __init__(self, public_keys: Sequence[PublicKey], *, interleaved: bool) -> None:
        self._public_keys = public_keys
        self._interleaved = interleaved
        self._chains: dict[str, _Chain] = {}
        self._current: _Chain | None = None
        self._torn: list[Place] = []
        self._ends_within_line = False

    def take(self, raw: bytes, place: Place) -> Iterator[Finding]:
        line = parse_line(raw.removesuffix(_NEWLINE))
        self._ends_within_line = not raw.endswith(_NEWLINE)
        if line is None:
            yield from self._no_line(raw.removesuffix(_NEWLINE), place)
        elif not line.fits_its_hash:
            yield from self._torn_within_chain()
            yield from self._changed(line, place)
        elif line.kind is Kind.OPENED:
            yield from self._open(line, place)
        else:
            yield from self._torn_within_chain()
            yield from self._follow(line, place)

    def end(self, place: Place) -> Iterator[Finding]:
        """What is to be said once there are no more lines; `place` is the last one's."""
        if self._torn and self._ends_within_line:
            yield _remark(self._torn.pop(), "the line is torn: its process was killed, or is writing it")
        yield from self._torn_within_chain()
        if not self._chains:
            yield _problem(place, "there is no audit trail in these files")
        for chain in self._chains.values():
            yield from _summary(chain)

    def _no_line(self, raw: bytes, place: Place) -> Iterator[Finding]:
        if (raw.startswith(_START) or _START.startswith(raw)) and len(self._torn) < MAX_PROBLEMS:
            self._torn.append(place)
        else:
            yield _problem(place, "is no line of an audit trail")

    def _torn_within_chain(self) -> Iterator[Finding]:
        torn, self._torn = self._torn, []
        for place in torn:
            yield _problem(place, "is no whole line, and no chain was broken off here")

    def _changed(self, line: Line, place: Place) -> Iterator[Finding]:
        yield _problem(place, "was changed: its hash is another")
        chain = self._chains.get(line.chain, self._current)
        if chain is not None:
            chain.seq, chain.hash, chain.last = chain.seq + 1, None, place

    def _open(self, line: Line, place: Place) -> Iterator[Finding]:
        if line.chain in self._chains:
            first = self._chains[line.chain].opened_at
            yield _problem(place, f"opens chain {line.chain} again, which {first} has opened")
            return
        chain = self._current = self._chains[line.chain] = _Chain(
            line.chain, opened_at=place, last=place, seq=line.seq, hash=line.hash
        )
        if line.seq != 1 or line.prev != NO_HASH or not self._has_signed(line):
            yield from self._torn_within_chain()
            yield _problem(place, f"opens chain {line.chain} without the signature of a given key")
            return
        members = json.loads(line.body + b"}")
        chain.origin = f"{members['host']}:{members['pid']}, release {members['release']}"
        for torn in self._torn:
            yield _remark(torn, f"the line is torn; {place} opens a new chain")
        self._torn = []
        yield from self._break_off(members["after"], place)

    def _break_off(self, after: dict[str, Any], place: Place) -> Iterator[Finding]:
        """Judge the chain that another one follows, up to the line which that one names."""
        if not after["chain"]:
            return
        broken = self._chains.get(after["chain"])
        if broken is None:
            yield _problem(place, f"follows chain {after['chain']}, which is not in these files")
            return
        if broken.seq < after["seq"]:
            yield _problem(
                broken.last, f"{after['seq'] - broken.seq} lines are missing behind it, as {place} shows"
            )
        elif broken.hash_at(after["seq"]) not in {None, after["hash"]}:
            yield _problem(broken.last, f"was exchanged, or lines before it, as {place} shows")
        broken.ending = f"broken off: {json.dumps(after['reason'])}"

    def _follow(self, line: Line, place: Place) -> Iterator[Finding]:
        chain = self._chains.get(line.chain)
        if chain is None:
            yield _problem(place, f"chain {line.chain} does not begin here: its start is missing")
            chain = self._chains[line.chain] = _Chain(
                line.chain, opened_at=place, last=place, seq=line.seq - 1, hash=None
            )
            self._current = chain
        yield from self._judge_position(chain, line, place)
        if line.seq <= chain.seq:
            return
        chain.move_to(line, place)
        if line.kind is Kind.RECORD:
            yield from self._count(chain, line, place)
        elif self._has_signed(line):
            chain.unsigned.clear()
        else:
            yield _problem(place, "its signature is not that of a given key")
        if line.kind is Kind.CLOSED:
            chain.ending = "closed"

    def _judge_position(self, chain: _Chain, line: Line, place: Place) -> Iterator[Finding]:
        missing = line.seq - chain.seq - 1
        if chain.ending:
            yield _problem(place, f"stands behind the end of its chain, {chain.last}")
        elif chain is not self._current and not self._interleaved:
            yield _problem(
                place, "stands among the lines of another chain: moved, or two processes wrote to one file"
            )
            self._current = chain
        elif missing < 0:
            yield _problem(
                place, f"is line {line.seq} of its chain, behind line {chain.seq}: moved or repeated"
            )
        elif missing:
            yield _problem(place, f"lines are missing before it: {missing}, behind {chain.last}")
        elif chain.hash not in {None, line.prev}:
            yield _problem(place, f"does not hold on to {chain.last}: one of the two was exchanged")

    def _count(self, chain: _Chain, line: Line, place: Place) -> Iterator[Finding]:
        chain.records += 1
        chain.unsigned.append(line.hash)
        if len(chain.unsigned) > CHECKPOINT_RECORDS:
            chain.unsigned.clear()
            yield _problem(place, f"no signature covers the {CHECKPOINT_RECORDS} records before it")

    def _has_signed(self, line: Line) -> bool:
        return any(key.has_signed(line.signed_message, line.signature) for key in self._public_keys)


def _summary(chain: _Chain) -> Iterator[Finding]:
    ending = chain.ending or "no end"
    text = f"{chain.id}: records: {chain.records}, lines: {chain.seq}, {ending}; of {chain.origin}"
    yield Finding(Weight.SUMMARY, chain.opened_at, text)
    if not chain.ending:
        yield _remark(
            chain.last,
            f"chain {chain.id} has no end: its process was killed or still writes, or the end was cut off; "
            f"records that no signature covers: {len(chain.unsigned)}",
        )


def _problem(place: Place, text: str) -> Finding:
    return Finding(Weight.PROBLEM, place, text)


def _remark(place: Place, text: str) -> Finding:
    return Finding(Weight.REMARK, place, text)
