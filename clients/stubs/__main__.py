"""Follows the recipes of docs/stubs.md: `python -m clients.stubs [LANGUAGE …]`.

For each language whose programs are found: stubs are made and compiled, and the smallest program reads a token of a
running broker, and the reason why an unknown install has none. The last line counts languages.
"""

import argparse
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from google.rpc import error_details_pb2

from clients.stubs.recipes import Recipe, recipes
from clients.stubs.sandbox_broker import SandboxBroker, SandboxFailedError, sandbox_broker
from clients.stubs.smoke import Smoke
from clients.stubs.trial import Verdict, try_recipe

ROOT: Final = Path(__file__).resolve().parents[2]
MADE: Final = ROOT / "build/stubs-smoke"
# Of Google's own protos what describes an error; a Python package brings them.
_PROTOS_OF_ERRORS: Final = ("error_details.proto", "status.proto")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each language; 1 if one failed."""
    known = {recipe.folder: recipe for recipe in recipes()}
    parser = argparse.ArgumentParser(prog="python -m clients.stubs", description=__doc__)
    parser.add_argument(
        "languages", nargs="*", metavar="LANGUAGE", help=f"of {', '.join(known)}; all if none"
    )
    wanted = parser.parse_args(arguments).languages or list(known)
    if unknown := set(wanted) - set(known):
        parser.error(f"no recipe for {', '.join(sorted(unknown))}")
    MADE.mkdir(parents=True, exist_ok=True)
    # What the environment brings comes first: buf, and the Python with grpcio-tools.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        with sandbox_broker(MADE / "sandbox.log") as broker:
            count = Counter(_tried([known[name] for name in wanted], broker))
    except SandboxFailedError as error:
        sys.stderr.write(f"the sandbox did not start:\n{error}")
        return 1
    sys.stdout.write(f"languages: {', '.join(f'{count[verdict]} {verdict}' for verdict in Verdict)}\n")
    return 1 if count[Verdict.FAILED] else 0


def _tried(chosen: Sequence[Recipe], broker: SandboxBroker) -> Iterator[Verdict]:
    environment = {"API": str(ROOT), "GOOGLEAPIS": str(_googleapis(MADE / "googleapis"))}
    in_ci = os.environ.get("CI") == "true"
    for recipe in chosen:
        began = time.monotonic()
        trial = try_recipe(Smoke(recipe, MADE / recipe.folder, environment), broker, in_ci=in_ci)
        seconds = time.monotonic() - began
        sys.stdout.write(f"{recipe.language:<11}{trial.verdict:<8}{seconds:>6.1f} s  {trial.told}\n")
        sys.stdout.flush()
        yield trial.verdict


def _googleapis(folder: Path) -> Path:
    """Google's protos of errors, laid out as the recipes expect them."""
    brought = Path(error_details_pb2.__file__).parent
    made = folder / "google/rpc"
    made.mkdir(parents=True, exist_ok=True)
    for name in _PROTOS_OF_ERRORS:
        shutil.copy2(brought / name, made / name)
    return folder


if __name__ == "__main__":
    sys.exit(main())
