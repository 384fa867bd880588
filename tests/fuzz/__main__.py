"""Fuzzes every target for a share of the time: `make fuzz SECONDS=600`.

What is found is left in build/fuzz, as are the inputs that reached something new: the next run begins with them.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.fuzz.targets import TARGETS, Target

BUILD: Final = Path("build/fuzz")
MAX_INPUT_BYTES: Final = 16 * 1024
MAX_MEMORY_MIB: Final = 2048
# What takes an input longer is a finding. A busy machine is none.
SLOW: Final = timedelta(seconds=20)
LINES_TOLD: Final = 40

_WORD: Final = re.compile(rb"[\w./:@-]{2,40}")
_RUNS: Final = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)
_NEW: Final = re.compile(r"^#\d+\s+NEW ", re.MULTILINE)


def main() -> None:
    """Exits with 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="in all, about")
    parser.add_argument(
        "targets", nargs="*", default=sorted(TARGETS), help="some of " + ", ".join(sorted(TARGETS))
    )
    chosen = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris has no wheel for this machine: fuzz on Linux on x86-64")
    jobs = min(os.cpu_count() or 1, len(chosen.targets))
    share = max(chosen.seconds * jobs // len(chosen.targets), 1)
    with ThreadPoolExecutor(jobs) as pool:
        runs = pool.map(lambda name: _fuzz(TARGETS[name], share), chosen.targets)
        sys.exit(not all([*runs]))


def _fuzz(target: Target, seconds: int) -> bool:
    """Whether nothing was found."""
    folder = BUILD / target.name
    inputs = folder / "corpus"
    inputs.mkdir(parents=True, exist_ok=True)
    _write_dictionary(target, folder / "words.dict")
    options = {
        "max_total_time": seconds,
        "max_len": MAX_INPUT_BYTES,
        "timeout": int(SLOW.total_seconds()),
        "rss_limit_mb": MAX_MEMORY_MIB,
        "dict": folder / "words.dict",
        "artifact_prefix": f"{folder}/found-",
    }
    written: list[str | Path] = [f"-{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "tests.fuzz.atheris_run", target.name, *written, inputs, target.corpus]
    with (folder / "log").open("wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    return _tell(target, (folder / "log").read_text(errors="replace"), ended.returncode)


def _write_dictionary(target: Target, path: Path) -> None:
    """The words of the kept inputs, so that the fuzzer need not find a field's name letter by letter."""
    words = {word for kept in target.corpus.iterdir() for word in _WORD.findall(kept.read_bytes())}
    path.write_text("".join(f'"{_escaped(word)}"\n' for word in sorted(words)))


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _tell(target: Target, log: str, exit_code: int) -> bool:
    """Whether nothing was found; says so to a person."""
    done = _RUNS.search(log)
    if exit_code or not done:
        tail = "\n".join(log.splitlines()[-LINES_TOLD:])
        _say(f"{target.name}: FOUND (exit code {exit_code}); mend it, and keep the input:\n{tail}")
        _say(f"  cp {BUILD}/{target.name}/found-… tests/fuzz/corpus/{target.name}/")
        return False
    runs, seconds = int(done[1]), max(int(done[2]), 1)
    new = len(_NEW.findall(log))
    _say(f"{target.name:18}{runs:12,} runs {runs // seconds:8,} a second {new:6,} new inputs")
    return True


def _say(text: str) -> None:
    """At once: targets run side by side."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
