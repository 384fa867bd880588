"""Checks the model exhaustively with spin: `make model`. Sound protocols must pass, broken ones must be rejected.

Needs spin and a C compiler (Debian: spin, gcc). Exits with 1 if a verdict is not the expected one or a search was not
exhaustive, and with 2 if a program is missing.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODEL: Final = Path(__file__).with_name("refresh.pml")
MAX_DEPTH: Final = 1_000_000
MEMORY_MIB: Final = 8_000
PROGRAMS: Final = {"spin": "spin", "gcc": "gcc"}
ROTATIONS: Final = {"none": 0, "grace": 1, "strict": 2, "family revoked": 3}


@dataclass(frozen=True, slots=True)
class Case:
    """A configuration, and whether the protocol in it is sound."""

    name: str
    defines: tuple[str, ...]
    is_sound: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search said. `violated`: the first assertion that does not hold, "" if all do."""

    states: int
    seconds: float
    is_exhaustive: bool
    violated: str


def cases() -> list[Case]:
    """Every rotation with and without invalidating mints; three replicas; a failover; and the broken ones."""
    found = []
    for name, rotation in ROTATIONS.items():
        for invalidates in (0, 1):
            policy = (f"ROTATION={rotation}", f"MINT_INVALIDATES={invalidates}")
            mints = ", mints invalidate" if invalidates else ""
            found += [
                Case(f"{name}{mints}: 2 replicas, 2 attempts, 3 faults", (*policy, "FAULTS=3")),
                Case(
                    f"{name}{mints}: 3 replicas, 1 attempt, 2 faults",
                    (*policy, "REPLICAS=3", "ATTEMPTS=1", "FAULTS=2"),
                ),
                Case(f"{name}{mints}: a failover, 1 fault", (*policy, "FAILOVER=1", "FAULTS=1")),
            ]
    strict = ("ROTATION=2", "MINT_INVALIDATES=1", "FAULTS=3")
    return [
        *found,
        Case("broken: no intent is written", (*strict, "NO_INTENT"), is_sound=False),
        Case("broken: presents in doubt", (*strict, "PRESENT_IN_DOUBT"), is_sound=False),
        Case("broken: no fence", (*strict, "NO_FENCE"), is_sound=False),
        Case("broken: doubt ends with any newest attempt", (*strict, "NO_DOUBTED_ATTEMPT"), is_sound=False),
        Case(
            "broken: claims without an id, and a failover",
            ("ROTATION=0", "FAILOVER=1", "FAULTS=1", "NO_CLAIM_ID"),
            is_sound=False,
        ),
    ]


def read_verdict(output: str) -> Verdict:
    """What `pan` printed."""
    states = re.search(r"([\d.e+]+) states, stored", output)
    seconds = re.search(r"elapsed time ([\d.e+-]+) seconds", output)
    violated = re.search(r"pan:1: (.*?)(?: \(at depth|$)", output, re.MULTILINE)
    cut_short = re.search(r"max search depth too small|out of memory|reached -DMEMLIM", output)
    return Verdict(
        states=int(float(states[1])) if states else 0,
        seconds=float(seconds[1]) if seconds else 0.0,
        is_exhaustive=states is not None and not cut_short and "Search not completed" not in output,
        violated=" ".join(violated[1].split()) if violated else "",
    )


def is_expected(case: Case, verdict: Verdict) -> bool:
    """Whether a sound protocol held everywhere, or a broken one was found out."""
    if case.is_sound:
        return verdict.is_exhaustive and not verdict.violated
    return verdict.violated.startswith("assertion violated")


def search(case: Case, folder: Path) -> Verdict:
    """Let spin and its verifier search every state."""
    shutil.copy(MODEL, folder)
    defines = [f"-D{define}" for define in case.defines]
    _run(["spin", *defines, "-a", MODEL.name], folder)
    flags = ["-w", "-O2", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB}"]
    _run(["gcc", *flags, "-o", "pan", "pan.c"], folder)
    return read_verdict(_run(["./pan", f"-m{MAX_DEPTH}"], folder))


def main() -> int:
    """0 if every verdict is the expected one."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        sys.stderr.write(f"needs {' and '.join(missing)}; on Debian: apt install {' '.join(missing)}\n")
        return 2
    unexpected, states, seconds = 0, 0, 0.0
    for case in cases():
        with tempfile.TemporaryDirectory(prefix="token-broker-model-") as folder:
            verdict = search(case, Path(folder))
        states, seconds = states + verdict.states, seconds + verdict.seconds
        as_expected = is_expected(case, verdict)
        unexpected += not as_expected
        told = "holds" if not verdict.violated else f"rejected: {verdict.violated}"
        mark = "" if as_expected else "  <-- NOT AS EXPECTED"
        sys.stdout.write(f"{case.name}: {verdict.states:,} states, {verdict.seconds:.1f} s: {told}{mark}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{states:,} states in {seconds:.0f} s; {unexpected} not as expected\n")
    return 1 if unexpected else 0


def _run(command: list[str], folder: Path) -> str:
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 (its own programs)
    return finished.stdout + finished.stderr


if __name__ == "__main__":
    sys.exit(main())
