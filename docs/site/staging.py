"""Lays out what zensical builds the site from: the documents, and a page for each file that they link to.

The documents are written to be read on a code host, where a link to a source file leads to it. The site has no code
host to lead to. So every file of the repository that a document names gets a page of its own under repository/: a
Markdown file as it is, any other as a listing.
"""

import posixpath
import re
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from docs import generate
from docs.site.dialect import as_zensical_reads_it
from docs.site.states_drawing import states_svg
from docs.syntax import SYNTAX

ROOT: Final = generate.ROOT
DOCUMENTS: Final = PurePosixPath("docs")
# Where the pages of what is not a document stand in the site.
REPOSITORY: Final = PurePosixPath("repository")
STYLES: Final = "extra.css"
PICTURES: Final = frozenset({".png", ".svg", ".jpg", ".webp"})
# A search for a word of the documents should not end in the tests that prove them; a listing is wide, and has no parts.
_NOT_SEARCHED: Final = "---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n"
_FENCED: Final = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
# Code, in which nothing is a link; or the target of an inline link or picture.
_CODE_OR_TARGET: Final = re.compile(
    r"(`+)(?!`).*?(?<!`)\1(?!`)|(?<=\]\()(?P<target>[^)\s]+)(?=\))", re.DOTALL
)
_ELSEWHERE: Final = re.compile(r"^([a-z][a-z0-9+.-]*:|#)", re.IGNORECASE)
_FENCES: Final = re.compile(r"`{3,}")
_MERMAID: Final = "```mermaid"


def stage(target: Path) -> None:
    """Write the pages into `target`, which is made anew.

    Raises:
        DocumentError: a document has a diagram that the site can't draw.
    """
    shutil.rmtree(target, ignore_errors=True)
    waiting = deque(documents())
    done = set(waiting)
    while waiting:
        source = waiting.popleft()
        place = target / page_of(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix in PICTURES:
            shutil.copyfile(ROOT / source, place)
            continue
        text, linked = _page(source)
        place.write_text(text, encoding="utf-8")
        new = [path for path in linked if path not in done]
        done.update(new)
        waiting.extend(new)
    shutil.copyfile(Path(__file__).with_name(STYLES), target / STYLES)


def documents() -> list[PurePosixPath]:
    """The documents, by their paths in the repository."""
    return [_inside(path) for path in sorted((ROOT / DOCUMENTS).rglob("*.md"))]


def page_of(source: PurePosixPath) -> PurePosixPath:
    """Where a file or folder of the repository stands in the site."""
    if (ROOT / source).is_dir():
        return REPOSITORY / source / "README.md"
    if source.suffix != ".md" and source.suffix not in PICTURES:
        return REPOSITORY / f"{source}.md"
    return source.relative_to(DOCUMENTS) if source.is_relative_to(DOCUMENTS) else REPOSITORY / source


def with_links_into_the_site(text: str, source: PurePosixPath) -> tuple[str, list[PurePosixPath]]:
    """`text`, of the file `source`, with its links led to the pages; and what these are the pages of."""
    linked: list[PurePosixPath] = []

    def moved(match: re.Match[str]) -> str:
        link: str | None = match["target"]
        if link is None or _ELSEWHERE.match(link):
            return match[0]
        path, mark, anchor = link.partition("#")
        there = _resolved(source, path)
        if there is None:
            return link  # the check of the links has a better word for it
        linked.append(there)
        return f"{posixpath.relpath(page_of(there), page_of(source).parent)}{mark}{anchor}"

    parts = list(_code_and_prose(text))
    return "".join(part if code else _CODE_OR_TARGET.sub(moved, part) for code, part in parts), linked


def _page(source: PurePosixPath) -> tuple[str, list[PurePosixPath]]:
    path = ROOT / source
    if path.is_dir():
        return with_links_into_the_site(_folder(source), source / "README.md")
    text = path.read_text(encoding="utf-8")
    if source.suffix != ".md":
        return _listing(source, text), []
    return with_links_into_the_site(as_zensical_reads_it(_with_drawings(text, source)), source)


def _listing(source: PurePosixPath, text: str) -> str:
    fence = "`" + max(["``", *_FENCES.findall(text)], key=len)
    language = SYNTAX.get(source.suffix, "text")
    return f"{_NOT_SEARCHED}\n# {source.name}\n`{source}`\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _folder(source: PurePosixPath) -> str:
    files = (path.name for path in sorted((ROOT / source).iterdir()) if path.is_file())
    lines = "\n".join(f"- [{name}]({name})" for name in files if not name.startswith("."))
    return f"{_NOT_SEARCHED}\n# {source.name}/\n`{source}`\n\n{lines}\n"


def _with_drawings(text: str, source: PurePosixPath) -> str:
    drawn = text.replace(generate.states_diagram(), states_svg())
    if _MERMAID in drawn:
        raise generate.DocumentError(
            f"{source}: the site draws the diagram of the states, and no other Mermaid"
        )
    return drawn


def _code_and_prose(text: str) -> Iterator[tuple[bool, str]]:
    """The text in order, each part with whether it is a block of code."""
    end = 0
    for block in _FENCED.finditer(text):
        yield False, text[end : block.start()]
        yield True, block[0]
        end = block.end()
    yield False, text[end:]


def _resolved(source: PurePosixPath, link: str) -> PurePosixPath | None:
    """What a link of `source` leads to, if it is in the repository."""
    path = (ROOT / source.parent / link).resolve()
    if not path.exists() or not path.is_relative_to(ROOT):
        return None
    readme = path / "README.md"
    return _inside(readme if readme.is_file() else path)


def _inside(path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(ROOT))
