"""Looks for dead links: `python -m docs.check_links [--site FOLDER]`.

In the repository's Markdown each relative link must lead to a file, and each anchor to a heading, as a code host makes
anchors of headings. In the built site each address must lead to a file of the site, each anchor to an element, and
nothing but what a reader clicks on may be elsewhere: a page that loads fonts or scripts from another host tells that
host who reads. Addresses of other hosts are not tried: what a gate says must not hang on them.

The links are found by a Markdown parser and by Python's of HTML. lychee does half of this in one wheel, of 318 MB
unpacked and for few platforms, and does not tell a link from what a page loads.
"""

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).resolve().parent.parent
_MADE_BY_MACHINES: Final = frozenset({"build", "dist", "node_modules"})
_NOT_IN_ANCHORS: Final = re.compile(r"[^\w\- ]")
_FETCHED_BY_A_STYLE: Final = re.compile(
    r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE
)
# What a reader clicks on; every other element with an address loads what is there.
_CLICKED: Final = frozenset({"a", "area"})
_ADDRESSES: Final = frozenset({"href", "src", "poster", "data"})
_PARSER: Final = MarkdownIt("commonmark").enable("table")


class Link(NamedTuple):
    """An address in a page, and whether the page loads it by itself."""

    address: str
    loaded: bool


class _Page(HTMLParser):
    """The addresses and the anchors of a page, or of HTML inside Markdown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[Link] = []
        self.anchors: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element names."""
        for name, value in attrs:
            if name in _ADDRESSES and value is not None:
                self.links.append(Link(value, loaded=tag not in _CLICKED))
            elif (name == "id" or (name == "name" and tag == "a")) and value:
                self.anchors.add(value)
            elif name == "srcset" and value:
                self.links += [
                    Link(part.split()[0], loaded=True) for part in value.split(",") if part.strip()
                ]
            elif name == "style" and value:
                self.links += _fetched(value)


def markdown_files(root: Path = ROOT) -> list[Path]:
    """The repository's own Markdown."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in _MADE_BY_MACHINES]
        found += [Path(folder, file) for file in files if file.endswith(".md")]
    return sorted(found)


def dead_in_markdown(document: Path) -> list[str]:
    """The links of a document that lead nowhere."""
    links = (address for address, _ in _links_of_markdown(document) if not _is_elsewhere(address))
    return [address for address in links if not _leads_to_a_heading(document, address)]


def dead_in_site(site: Path) -> list[str]:
    """What is wrong with the addresses in a built site, each with the first page that has it."""
    site = site.resolve()
    found: dict[str, list[str]] = {}
    for path in sorted(path for path in site.rglob("*") if path.suffix in {".css", ".html"}):
        links = _html(path).links if path.suffix == ".html" else _fetched(path.read_text(encoding="utf-8"))
        for problem in {_problem(site, path, link) for link in links} - {None}:
            found.setdefault(str(problem), []).append(str(path.relative_to(site)))
    return [f"{problem} (pages: {len(pages)}, first {pages[0]})" for problem, pages in found.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Name each dead link; 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m docs.check_links", description=__doc__)
    parser.add_argument("--site", type=Path, help="a folder with a built site, to be looked at too")
    site: Path | None = parser.parse_args(arguments).site
    documents = markdown_files()
    dead = [
        f"{path.relative_to(ROOT)}: dead link: {link}"
        for path in documents
        for link in dead_in_markdown(path)
    ]
    if site is not None:
        if not (site / "index.html").is_file():
            dead.append(f"{site}: no site is there")
        dead += dead_in_site(site)
    sys.stderr.writelines(f"{line}\n" for line in dead)
    sys.stdout.write(f"links: {len(documents)} documents{f' and {site}' if site else ''}, {len(dead)} dead\n")
    return 1 if dead else 0


def _links_of_markdown(path: Path) -> Iterator[Link]:
    for token in _tokens(path):
        if token.type == "link_open":
            yield Link(str(token.attrs["href"]), loaded=False)
        elif token.type == "image":
            yield Link(str(token.attrs["src"]), loaded=True)
        elif token.type in {"html_block", "html_inline"}:
            yield from _Page(token.content).links


@cache
def _anchors_of_markdown(path: Path) -> frozenset[str]:
    """The anchors of a document: those of its headings as a code host makes them, and its own."""
    tokens = _tokens(path)
    heads = (after for token, after in pairwise(tokens) if token.type == "heading_open")
    seen: Counter[str] = Counter()
    anchors = set()
    for head in heads:
        text = "".join(child.content for child in head.children or ())
        anchor = _NOT_IN_ANCHORS.sub("", text.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    for token in tokens:
        if token.type in {"html_block", "html_inline"}:
            anchors |= _Page(token.content).anchors
    return frozenset(anchors)


@cache
def _tokens(path: Path) -> tuple[Token, ...]:
    """All tokens of a document, each before those inside it."""
    tokens = _PARSER.parse(path.read_text(encoding="utf-8"))
    return tuple(inner for token in tokens for inner in (token, *(token.children or ())))


def _leads_to_a_heading(document: Path, address: str) -> bool:
    parts = urlsplit(address)
    target = (document.parent / unquote(parts.path)).resolve() if parts.path else document
    if not target.exists():
        return False
    return not parts.fragment or (target.suffix == ".md" and parts.fragment in _anchors_of_markdown(target))


@cache
def _html(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def _problem(site: Path, page: Path, link: Link) -> str | None:
    """What is wrong with an address of a page, if anything is."""
    parts = urlsplit(link.address)
    if _is_elsewhere(link.address):
        return f"loads from elsewhere: {link.address}" if link.loaded and parts.scheme != "data" else None
    folder = site if parts.path.startswith("/") else page.parent
    target = (folder / unquote(parts.path).lstrip("/")).resolve() if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file() or not target.is_relative_to(site):
        return f"dead link: {os.path.relpath(target, site)}"
    if parts.fragment and unquote(parts.fragment) not in _html(target).anchors:
        return f"no such anchor: {os.path.relpath(target, site)}#{parts.fragment}"
    return None


def _fetched(style: str) -> list[Link]:
    return [Link(address, loaded=True) for address in _FETCHED_BY_A_STYLE.findall(style)]


def _is_elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc)


if __name__ == "__main__":
    sys.exit(main())
