"""Processes that fork, as servers that load their program before their workers do."""

import subprocess
import sys
from pathlib import Path

import pytest

from clients.python.tests.fake_broker import PATIENCE, FakeBroker, serving

PROGRAM = Path(__file__).with_name("forking.py")
CHECKOUT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("calls_before", "said"), [("no", "1"), ("yes", "RuntimeError")], ids=["unused client", "used client"]
)
def test_client_in_a_forked_child(calls_before: str, said: str) -> None:
    """It works, or says at once why not; gRPC itself would hang without an end."""
    with serving(FakeBroker()) as broker:
        ended = subprocess.run(
            [sys.executable, PROGRAM, broker.target, calls_before],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=True,
        )
    assert ended.stdout.split() == [said, "1"], ended.stderr
