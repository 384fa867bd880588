"""The fuzzer's kept inputs, without a fuzzer: each ends as its port says, and together they end in every way."""

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

KEPT = [str(kept.relative_to(CORPUS)) for kept in sorted(CORPUS.glob("*/*"))]
MAX_BYTES = 16 * 1024


@pytest.mark.parametrize("kept", KEPT)
def test_kept_input_ends_as_its_port_says(kept: str) -> None:
    """What was found once must not come back, on whatever machine, with or without atheris."""
    target = TARGETS[kept.partition("/")[0]]
    data = (CORPUS / kept).read_bytes()
    assert len(data) <= MAX_BYTES
    assert target.try_one(data) in target.ends


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs_end_in_every_way(name: str) -> None:
    """A fuzzer begins with them: what no input comes near to is hardly tried. And a target that judges nothing shows."""
    target = TARGETS[name]
    assert {target.try_one(kept.read_bytes()) for kept in target.corpus.iterdir()} == target.ends
