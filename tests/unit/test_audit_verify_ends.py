"""Verification of an audit trail: how chains begin and end, forgeries, and files that are none."""

import json

import pytest

from broker.adapters.audit.chain import CHECKPOINT_RECORDS, Chain
from broker.adapters.audit.keys import PublicKey
from broker.adapters.audit.verify import MAX_PROBLEMS
from tests.unit.audit_lines import FORGER, KEYS, NOON, PUBLIC, Writer, problems, remarks


def test_chain_cut_off_is_a_remark_and_says_what_no_signature_covers() -> None:
    """A killed process looks the same: the trail can't tell, and says so."""
    whole = Writer(1).record(2).checkpoint().record(3)
    assert problems(whole.lines) == []
    (remark,) = remarks(whole.lines)
    assert remark.startswith(f"0:7: chain {1:032x} has no end: its process was killed or still writes, or")
    assert remark.endswith("records that no signature covers: 3")


def test_line_torn_by_a_kill_is_a_remark_at_the_end_and_before_the_next_process() -> None:
    """Power cuts and kills end within a line; the next process begins another."""
    killed = Writer(1).record(3)
    torn = killed.lines[-1][:-20]
    assert problems([*killed.lines[:-1], torn]) == []
    assert problems([*killed.lines[:-1], torn + b"\n", *Writer(2).close().lines]) == []
    assert problems([*killed.lines[:-1], torn], Writer(2).close().lines) == []


def test_torn_line_in_the_middle_of_a_chain_is_a_problem() -> None:
    """Nothing tears a line and goes on, and no chain that begins later explains it."""
    whole, next_chain = Writer(1).record(3).close().lines, Writer(2).close().lines
    assert problems([*whole[:2], whole[2][:40] + b"\n", *whole[2:], *next_chain]) == [
        "0:3: is no whole line, and no chain was broken off here"
    ]


def test_repeated_line_is_told_by_its_number() -> None:
    """Whoever looks into it should not search for lines that are missing."""
    lines = Writer(1).record(3).close().lines
    assert problems([*lines[:4], lines[1], *lines[4:]]) == [
        "0:5: is line 2 of its chain, behind line 4: moved or repeated"
    ]


def test_lost_end_of_a_chain_that_was_broken_off_is_a_problem() -> None:
    """The next chain says how far the one before is known to stand: that end can't be cut off."""
    broken = Writer(1).record(4)
    after = Writer(2, after=broken.broken()).close()
    assert problems([*broken.lines, *after.lines]) == []
    assert problems([*broken.lines[:-2], *after.lines]) == [
        "0:3: 2 lines are missing behind it, as 0:4 shows"
    ]
    assert problems(after.lines) == [f"0:1: follows chain {1:032x}, which is not in these files"]


def test_forged_end_of_a_chain_that_was_broken_off_is_a_problem() -> None:
    """Its hashes were made anew, its signatures can't be; the next chain vouches for what none covers yet."""
    broken = Writer(1).record(4)
    forged = Writer(1).record(2)
    forged.lines += Writer.split(forged.chain.records(['"n":"forged"'] * 2, NOON))
    after = Writer(2, after=broken.broken()).close()
    assert problems([*broken.lines[:1], *forged.lines[1:], *after.lines])


def test_lines_behind_the_last_that_is_known_to_stand_are_no_problem() -> None:
    """The other sink failed: these were refused, and stand here all the same."""
    broken = Writer(1).record(4)
    assert problems([*broken.lines, *Writer(2, after=broken.broken(lost=3)).close().lines]) == []


def test_forged_chain_is_a_problem() -> None:
    """A chain of somebody who has not the key: its first line must be signed."""
    assert problems(Writer(1, keys=FORGER).record(2).close().lines)[0] == (
        f"0:1: opens chain {1:032x} without the signature of a given key"
    )


def test_checkpoint_of_another_key_is_a_problem() -> None:
    """Lines changed before it and all hashes made anew: the signature can't be."""
    honest, forged = Writer(1).record(2).checkpoint(), Writer(1, keys=FORGER).record(2).checkpoint()
    assert problems([honest.lines[0], *honest.lines[1:3], forged.lines[3]])
    rest = Chain(f"{1:032x}", FORGER.sign)
    rest.seq, rest.hash = 3, json.loads(honest.lines[2])["hash"]
    assert problems([*honest.lines[:3], rest.checkpoint(NOON).encode()]) == [
        "0:4: its signature is not that of a given key"
    ]


@pytest.mark.parametrize("place", [1, 2, 3])
def test_changed_line_whose_hash_was_made_anew_is_a_problem(place: int) -> None:
    """Hashes need no key; but the next line holds on to the old one, and a signature to the last."""
    lines = Writer(1).record(4).checkpoint().lines
    forger = Chain(f"{1:032x}", FORGER.sign)
    forger.seq, forger.hash = place, json.loads(lines[place - 1])["hash"]
    forged = forger.records(['"n":"forged"'], NOON).encode()
    assert problems([*lines[:place], forged, *lines[place + 1 :]]) == [
        f"0:{place + 2}: does not hold on to 0:{place + 1}: one of the two was exchanged"
    ]


def test_signature_of_one_line_does_not_serve_another() -> None:
    """Each signs its own place."""
    lines = Writer(1).record(1).checkpoint().record(1).checkpoint().lines
    signature = lines[2][lines[2].index(b',"signature"') :]
    assert problems([*lines[:4], lines[4][: lines[4].index(b',"signature"')] + signature])


def test_signature_given_to_a_record_or_taken_from_a_checkpoint_is_a_problem() -> None:
    """It stands behind what the hash covers: what stands there must be what its kind has, and nothing else."""
    lines = Writer(1).record(1).checkpoint().close().lines
    start = lines[2].index(b',"signature"')
    assert problems([lines[0], lines[1][:-2] + lines[2][start:], *lines[2:]])
    assert problems([*lines[:2], lines[2][:start] + b"}\n", *lines[3:]])


def test_trail_of_several_keys_needs_them_all() -> None:
    """A key that was exchanged does not make the old trail unreadable."""
    files = [Writer(1).close().lines, Writer(2, keys=FORGER).close().lines]
    both = [PUBLIC, PublicKey.parse(FORGER.public_key)]
    assert problems(*files, keys=both) == []
    assert problems(*files, keys=both[:1])


def test_missing_start_missing_file_and_wrong_order_are_problems() -> None:
    """The files of a rotated trail are given by hand: whoever forgets one must be told."""
    lines = Writer(1).record(9).close().lines
    assert problems(lines[3:]) == [f"0:1: chain {1:032x} does not begin here: its start is missing"]
    assert problems(lines[:4], lines[6:]) == ["1:1: lines are missing before it: 2, behind 0:4"]
    assert problems(lines[4:], lines[:4])
    assert problems(lines, lines)


def test_line_behind_the_end_of_its_chain_is_a_problem() -> None:
    """Nobody writes on once a chain is closed."""
    writer = Writer(1).record(1).close().record(1)
    assert problems(writer.lines) == ["0:4: stands behind the end of its chain, 0:3"]


def test_two_processes_in_one_file_are_a_problem_unless_they_were_announced() -> None:
    """Else a line could be moved among those of another chain."""
    one, other = Writer(1).record(2), Writer(2).record(2)
    mixed = [*one.lines, *other.lines, *one.record(1).close().lines[3:], *other.close().lines[3:]]
    assert problems(mixed)
    assert problems(mixed, interleaved=True) == []


def test_records_that_no_signature_covers_are_bounded() -> None:
    """A broker signs at least so often: whoever adds more to an open end has forged them."""
    writer = Writer(1).record(CHECKPOINT_RECORDS)
    assert problems(writer.lines) == []
    unsigned = [*writer.lines[:-1]]
    forger = Chain(f"{1:032x}", KEYS.sign)
    forger.seq, forger.hash = CHECKPOINT_RECORDS + 1, json.loads(unsigned[-1])["hash"]
    assert problems([*unsigned, forger.records(['"n":0'], NOON).encode()]) == [
        f"0:{CHECKPOINT_RECORDS + 2}: no signature covers the {CHECKPOINT_RECORDS} records before it"
    ]


@pytest.mark.parametrize("content", [[], [b"\n"], [b"{}\n"], [b"\0" * 1_000_000]])
def test_what_is_no_trail_is_not_well(content: list[bytes]) -> None:
    """An emptied file must not pass."""
    assert "0" in "".join(problems(content))
    assert any("there is no audit trail in these files" in text for text in problems(content))


def test_file_that_is_no_trail_is_given_up_on() -> None:
    """The wrong file, of gigabytes, in bounded memory and with a bounded answer."""
    assert len(problems([b"what else\n"] * (MAX_PROBLEMS + 50))) == MAX_PROBLEMS + 1
    assert len(problems([b"\n"] * 10 * MAX_PROBLEMS)) <= 2 * MAX_PROBLEMS + 1


@pytest.mark.parametrize("place", [0, 3, 5])
def test_longer_line_than_a_broker_writes_is_a_problem(place: int) -> None:
    """It is not read into memory; what stands behind it is."""
    lines, long = Writer(1).record(3).close().lines, b'{"audit":1,"kind":"record"' + b" " * 300_000 + b"\n"
    found = problems([*lines[:place], long, *lines[place:]])
    assert found == [f"0:{place + 1}: is no line of an audit trail"]
