"""Programs that some tests need and a machine may lack."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def requires_program(name: str) -> Path:
    """The program's path, looked for beside this Python and then on PATH.

    Without it the test is skipped with a line that says so; in CI (the variable CI is set) it fails instead.
    """
    beside_python = Path(sys.executable).parent / name
    if beside_python.exists():
        return beside_python
    found = shutil.which(name)
    if found is None:
        missing = f"the program {name!r} is not on this machine"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; in CI no test may be skipped", pytrace=False)
        pytest.skip(missing)
    return Path(found)
