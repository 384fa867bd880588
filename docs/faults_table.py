"""Which test proves which fault: read from the catalogue in docs/faults.md and the names of the tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TESTS: Final = ROOT / "tests"
_FAULT: Final = re.compile(r"_(f\d{2})(?=_)")
_ROW: Final = re.compile(r"^\| (F\d{2}) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)


def proofs() -> dict[str, list[str]]:
    """The tests by the faults that they carry in their names, as links from docs/."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in _tests(path):
            for fault in _FAULT.findall(name):
                link = f"[{name}](../{path.relative_to(ROOT)})"
                found.setdefault(fault.upper(), []).append(link)
    return found


def catalogue(document: str) -> dict[str, tuple[str, str]]:
    """Each fault's description and promise, by its id, from the tables of `document`."""
    return {fault: (what.strip(), promised.strip()) for fault, what, promised in _ROW.findall(document)}


def proofs_table(document: str) -> str:
    """Fault → promise → tests."""
    known = proofs()
    lines = ["| fault | promised | proved by |", "| --- | --- | --- |"]
    for fault, (_, promised) in sorted(catalogue(document).items()):
        tests = known.get(fault)
        lines.append(f"| {fault} | {promised} | {'<br>'.join(tests) if tests else '*no test yet*'} |")
    return "\n".join(lines)


def _tests(path: Path) -> Iterator[str]:
    """The tests of a file that run: one that is skipped proves nothing."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and "mark.skip" in ast.unparse(node):
            return
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
            continue
        if not any("mark.skip" in ast.unparse(decorator) for decorator in node.decorator_list):
            yield node.name
