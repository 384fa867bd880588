"""Verification of an audit trail: whatever is done to a line is found."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.adapters.audit.verify import Weight
from tests.unit.audit_lines import Writer, findings, problems, said


def several_chains() -> list[bytes]:
    """Closed ones, one that a full disk broke off, its torn line, and the one that followed."""
    first = Writer(1).record(3).checkpoint().record(2).close()
    broken = Writer(2).record(2).checkpoint().record(3)
    after = Writer(3, after=broken.broken()).record(2).checkpoint().record(1).close()
    return [
        *first.lines,
        *broken.lines,
        broken.lines[-1][:99] + b"\n",
        *after.lines,
        *Writer(4).record(2).close().lines,
    ]


# An example checks a dozen signatures, beside whatever else the machine does.
PATIENTLY: Final = settings(deadline=None)

TRAIL: Final = several_chains()
# The torn line is none: what it said was never told to anybody.
TORN: Final = next(place for place, line in enumerate(TRAIL) if not line.endswith(b"}\n"))
ANY_LINE: Final = st.sampled_from([place for place in range(len(TRAIL)) if place != TORN])
# Nobody can tell a last line that is gone from a kill just before it, or a later file from no file: see docs/audit.md.
LAST: Final = len(TRAIL) - 1


def test_whole_trail_is_well_and_its_chains_are_counted() -> None:
    """And what a full disk did is said, and is no problem."""
    found = findings(TRAIL)
    assert said(Weight.PROBLEM, found) == []
    assert [text.split(" of ")[0] for text in said(Weight.SUMMARY, found)] == [
        f"0:1: {1:032x}: records: 5, lines: 8, closed;",
        f'0:9: {2:032x}: records: 5, lines: 7, broken off: "No space left on device";',
        f"0:17: {3:032x}: records: 3, lines: 6, closed;",
        f"0:23: {4:032x}: records: 2, lines: 4, closed;",
    ]
    assert said(Weight.REMARK, found) == ["0:16: the line is torn; 0:17 opens a new chain"]


@PATIENTLY
@given(st.lists(st.integers(0, len(TRAIL)), max_size=4))
def test_trail_may_be_cut_into_files_anywhere(cuts: list[int]) -> None:
    """Rotation happens between two lines, and a chain goes on in the next file."""
    edges = [0, *sorted(cuts), len(TRAIL)]
    assert problems(*(TRAIL[start:end] for start, end in pairwise(edges))) == []


@PATIENTLY
@given(ANY_LINE, st.data())
def test_changed_byte_is_found(place: int, data: st.DataObject) -> None:
    """Any byte of any line, its hash and its signature included, made any other."""
    line = bytearray(TRAIL[place])
    index = data.draw(st.integers(0, len(line) - 1))
    line[index] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[index]))
    changed = [*TRAIL[:place], bytes(line), *TRAIL[place + 1 :]]
    assert is_found(changed)


@PATIENTLY
@given(ANY_LINE)
def test_dropped_line_is_found(place: int) -> None:
    """A record that embarrasses somebody."""
    assert is_found([*TRAIL[:place], *TRAIL[place + 1 :]])


@PATIENTLY
@given(ANY_LINE, st.integers(0, len(TRAIL)))
def test_repeated_line_is_found_wherever_it_is_put(place: int, target: int) -> None:
    """A copied record would say that a caller came twice."""
    assert problems([*TRAIL[:target], TRAIL[place], *TRAIL[target:]])


@PATIENTLY
@given(ANY_LINE, ANY_LINE)
def test_two_lines_that_changed_places_are_found(one: int, other: int) -> None:
    """The order of records is part of what they say; even across chains."""
    assume(one != other)
    swapped = list(TRAIL)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    assert problems(swapped)


@PATIENTLY
@given(ANY_LINE, st.integers(0, LAST))
def test_moved_line_is_found(place: int, target: int) -> None:
    """Up or down, by any number of lines."""
    rest = [*TRAIL[:place], *TRAIL[place + 1 :]]
    moved = [*rest[:target], TRAIL[place], *rest[target:]]
    assume(moved != TRAIL and not only_the_torn_line_moved(moved))
    assert problems(moved)


@PATIENTLY
@given(st.integers(0, len(TRAIL)), st.binary(max_size=300))
def test_line_of_garbage_is_found(place: int, garbage: bytes) -> None:
    """Whatever somebody else writes to the file."""
    garbage = garbage.replace(b"\n", b"")
    assert is_found([*TRAIL[:place], garbage + b"\n", *TRAIL[place:]])


def is_found(trail: Sequence[bytes]) -> bool:
    """Whether there is a problem, or at least one remark more: a torn or missing end may have been a kill."""
    found = findings(trail)
    return bool(said(Weight.PROBLEM, found)) or len(said(Weight.REMARK, found)) > 1


def only_the_torn_line_moved(moved: Sequence[bytes]) -> bool:
    """Whether all others stand in their order."""
    return [line for line in moved if line != TRAIL[TORN]] == [line for line in TRAIL if line != TRAIL[TORN]]


@PATIENTLY
@given(
    ANY_LINE.filter(
        lambda place: place != LAST and not TRAIL[place + 1].startswith(b'{"audit":1,"kind":"opened"')
    )
)
def test_dropped_line_within_a_chain_is_a_problem(place: int) -> None:
    """Not a mere remark: exit code 1."""
    assert problems([*TRAIL[:place], *TRAIL[place + 1 :]])
