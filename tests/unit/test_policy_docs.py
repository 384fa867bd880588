"""docs/policy.md: each of its commands is run on the files that it shows, and prints what it says."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from broker.cli import app

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "policy.md"
SECTION: Final = re.compile(r"^#{2,} ", re.MULTILINE)
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES: Final = {"cedar": "policy.cedar", "json": "groups.json"}
PROMPT: Final = "$ token-broker "

SECTIONS: Final = {
    section.partition("\n")[0]: BLOCK.findall(section)
    for section in SECTION.split(DOCUMENT.read_text(encoding="utf-8"))
    if "```console" in section
}


def replayed(console: str) -> str:
    """A console block with what its commands print now."""
    lines = []
    for line in console.splitlines():
        if line.startswith(PROMPT):
            result = CliRunner().invoke(app, shlex.split(line.removeprefix(PROMPT)))
            lines += [line, *result.output.splitlines()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("section", SECTIONS)
def test_documents_example_does_what_it_says(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newcomer copies these: a policy that gives more than its text says would be copied too."""
    monkeypatch.chdir(tmp_path)
    for kind, text in SECTIONS[section]:
        if kind == "console":
            assert replayed(text) == text
        else:
            (tmp_path / FILES[kind]).write_text(text, encoding="utf-8")


def test_document_has_its_examples() -> None:
    """A heading or a fence that is misspelt must not make the test above pass by itself."""
    assert len(SECTIONS) == 7
    assert sum(text.count(PROMPT) for blocks in SECTIONS.values() for _, text in blocks) > 15
