"""How each example is built and started: commands, from the root of the checkout."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[1]

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Language:
    """One example.

    Attributes:
        name: the language's, for people.
        build: run one after another; they leave what they make in ignored folders.
        start: runs the example.
    """

    name: str
    build: tuple[Command, ...]
    start: Command


LANGUAGES: Final = {
    "python": Language("Python", (), (sys.executable, "examples/python/company.py")),
    "go": Language(
        "Go",
        (("go", "build", "-C", "examples/go", "-o", "../../build/examples/company", "."),),
        ("build/examples/company",),
    ),
    "typescript": Language(
        "TypeScript",
        (
            ("npm", "ci", "--no-fund", "--no-audit", "--prefix", "clients/typescript"),
            ("npm", "run", "build", "--prefix", "clients/typescript"),
            ("npm", "ci", "--no-fund", "--no-audit", "--prefix", "examples/typescript"),
            ("npm", "run", "build", "--prefix", "examples/typescript"),
        ),
        ("node", "examples/typescript/dist/company.js"),
    ),
    "java": Language(
        "Java",
        (("mvn", "-B", "-q", "-f", "examples/java/with-client.xml", "package", "-Dmaven.test.skip=true"),),
        ("java", "-cp", "examples/java/target/classes:examples/java/target/lib/*", "Company"),
    ),
}
