"""The README's programs, as they are printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clients.python.tests.fake_broker import PATIENCE, FakeBroker, serving, token_value

README = Path(__file__).parents[1] / "README.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[
    :2
]


@pytest.mark.parametrize("program", PROGRAMS, ids=["threads", "tasks"])
def test_program_of_the_readme_prints_a_token(program: str) -> None:
    """Whoever begins with us begins by copying it."""
    with serving(FakeBroker()) as broker:
        ended = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                program.replace("127.0.0.1:50051", f"127.0.0.1:{broker.port}"),
            ],
            cwd=README.parent,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=True,
        )
    assert "Token(********, type='Bearer', install_id='1000000', generation=1)" in ended.stdout
    assert token_value("1000000", 1) not in ended.stdout + ended.stderr
