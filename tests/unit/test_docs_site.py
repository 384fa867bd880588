"""The site shows every document, draws what code hosts draw, leads nowhere dead, and loads nothing from elsewhere."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest
from google.protobuf.descriptor import FileDescriptor

from broker.domain.states import TRANSITIONS, InstallState
from docs import check_links, generate
from docs.site import staging
from docs.site.dialect import as_zensical_reads_it
from docs.site.states_drawing import lanes, states_svg
from tokenbroker.v1 import error_reason_pb2, installs_pb2, token_broker_pb2

ROOT: Final = generate.ROOT
CONFIGURATION: Final = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
API: Final = (ROOT / "docs/api.md").read_text(encoding="utf-8")
PROTOS: Final[tuple[FileDescriptor, ...]] = (
    token_broker_pb2.DESCRIPTOR,
    installs_pb2.DESCRIPTOR,
    error_reason_pb2.DESCRIPTOR,
)
SCRIPT_ELSEWHERE: Final = '<script src="https://cdn.example/x.js"></script>'


def _pages(nav: Any) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case dict():
            yield from (page for value in nav.values() for page in _pages(value))
        case list():
            yield from (page for value in nav for page in _pages(value))


NAVIGATION: Final = sorted(_pages(CONFIGURATION["nav"]))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one document, which a test writes, and files for it to link to."""
    root = tmp_path / "repository"
    for folder in ("docs/adr", "broker/adapters", "clients"):
        (root / folder).mkdir(parents=True)
    (root / "README.md").write_text("# Readme\n[it](docs/page.md)\n", encoding="utf-8")
    (root / "broker/app.py").write_text('"""Has ``` in it."""\n', encoding="utf-8")
    (root / "broker/adapters/clock.py").write_text("tick = 1\n", encoding="utf-8")
    (root / "clients/README.md").write_text("# Clients\n", encoding="utf-8")
    (root / "docs/adr/README.md").write_text("# Decisions\n", encoding="utf-8")
    (root / "docs/drawing.png").write_bytes(b"\x89PNG")
    monkeypatch.setattr(staging, "ROOT", root)
    return root


def _staged(repository: Path, document: str) -> str:
    """The page of docs/page.md, whose text is `document`."""
    (repository / "docs/page.md").write_text(document, encoding="utf-8")
    site = repository / "build"
    staging.stage(site)
    return (site / "page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", NAVIGATION)
def test_every_page_of_the_navigation_is_there(page: str) -> None:
    """Zensical does not say when one is missing: every page of the site would have a dead link."""
    assert (ROOT / "docs" / page).is_file()


def test_every_document_is_in_the_navigation_or_in_its_folders_index() -> None:
    """A page that nobody comes by might as well not be written."""
    documents = [path.relative_to("docs") for path in staging.documents()]
    left_out = [path for path in documents if str(path) not in NAVIGATION]
    indexed = [path for path in left_out if str(path.parent / "README.md") in NAVIGATION and path.parent.name]
    assert [path for path in left_out if path not in indexed] == []
    unlinked = [
        p for p in indexed if f"({p.name})" not in (ROOT / "docs" / p.parent / "README.md").read_text()
    ]
    assert unlinked == []


def test_no_font_is_asked_of_a_server() -> None:
    """Zensical's default tells a font server who reads."""
    assert CONFIGURATION["theme"]["font"] is False


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("../broker/app.py", "repository/broker/app.py.md"),
        ("../broker/adapters", "repository/broker/adapters/README.md"),
        ("../clients", "repository/clients/README.md"),
        ("../README.md#readme", "repository/README.md#readme"),
        ("adr/README.md", "adr/README.md"),
        ("drawing.png", "drawing.png"),
        ("#here", "#here"),
        ("https://example.org/x", "https://example.org/x"),
        ("../not/there.py", "../not/there.py"),
        ("../../outside.md", "../../outside.md"),
    ],
)
def test_a_link_of_a_document_leads_to_a_page_of_the_site(repository: Path, link: str, leads_to: str) -> None:
    """On a code host it leads to the file; the site has no code host."""
    assert _staged(repository, f"[words]({link})\n") == f"[words]({leads_to})\n"
    path = leads_to.partition("#")[0]
    assert (repository / "build" / path).exists() or not (
        repository / "docs" / link.partition("#")[0]
    ).exists()


@pytest.mark.parametrize(
    "code",
    ["`[a](../broker/app.py)`", "``` sh\n[a](../broker/app.py)\n```", "~~~\n[a](../broker/app.py)\n~~~"],
)
def test_what_looks_like_a_link_in_code_stays(repository: Path, code: str) -> None:
    """An example that is changed on its way to the site would be copied wrong."""
    assert _staged(repository, f"{code}\n") == f"{code}\n"


def test_pages_of_linked_files_lead_on_within_the_site(repository: Path) -> None:
    """The README is linked from everywhere, and links to everything."""
    _staged(repository, "[readme](../README.md), [folder](../broker/adapters)\n")
    build = repository / "build/repository"
    assert "[it](../page.md)" in (build / "README.md").read_text(encoding="utf-8")
    assert "[clock.py](clock.py.md)" in (build / "broker/adapters/README.md").read_text(encoding="utf-8")
    assert (build / "broker/adapters/clock.py.md").is_file()


def test_a_listing_ends_where_the_file_ends(repository: Path) -> None:
    """A file with fences in it must not fall out of its own."""
    _staged(repository, "[app](../broker/app.py)\n")
    listing = (repository / "build/repository/broker/app.py.md").read_text(encoding="utf-8")
    assert listing.endswith('````python\n"""Has ``` in it."""\n````\n')
    assert "exclude: true" in listing


def test_whole_staged_site_has_no_link_that_its_documents_have_not(tmp_path: Path) -> None:
    """The dead ones of the documents are told by another test; staging must bring none of its own."""
    staging.stage(tmp_path)
    dead = {link for page in tmp_path.rglob("*.md") for link in check_links.dead_in_markdown(page)}
    known = {link for page in check_links.markdown_files() for link in check_links.dead_in_markdown(page)}
    assert dead - known == set()


def test_diagram_of_states_is_drawn_without_a_script() -> None:
    """In a browser Mermaid would come from a CDN."""
    drawing = ET.fromstring(states_svg())  # noqa: S314 (our own drawing)
    told = str(drawing[0].attrib["aria-label"])
    for (before, event), after in TRANSITIONS.items():
        assert f"{before.name} to {after.name}: " in told
        assert event.value in told
    texts = [text.text for text in drawing.iter("text")]
    assert [state.name for state in InstallState if state.name not in texts] == []


def test_each_transition_between_states_has_one_lane() -> None:
    """A way that is not drawn looks like one that does not exist."""
    drawn = [(s, event, lane.target) for lane in lanes() for s in lane.sources for event in lane.events]
    meant = [(before, event, after) for (before, event), after in TRANSITIONS.items() if before is not after]
    assert sorted(drawn) == sorted(meant)


def test_concepts_page_has_the_drawing_in_place_of_mermaid(tmp_path: Path) -> None:
    """Else the site shows the source of a diagram."""
    staging.stage(tmp_path)
    page = (tmp_path / "concepts.md").read_text(encoding="utf-8")
    assert states_svg() in page
    assert "mermaid" not in page


def test_a_diagram_that_the_site_cannot_draw_is_refused(repository: Path) -> None:
    """Whoever adds one must learn of it from the gate, not from a reader."""
    with pytest.raises(generate.DocumentError, match=r"page\.md"):
        _staged(repository, "```mermaid\ngraph TD\n```\n")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("words\n- item\n", "words\n\n- item\n"),
        ("- item\n  goes on\n", "- item\n    goes on\n"),
        ("- item\n  - inner\n    goes on\n", "- item\n    - inner\n        goes on\n"),
        (
            "1. do\n\n   ```sh\n   x\n     y\n   ```\n2. then\n",
            "1. do\n\n    ```sh\n    x\n      y\n    ```\n\n2. then\n",
        ),
        ("- one\n\n  more\n- two\n", "- one\n\n    more\n\n- two\n"),
        ("```\ntext\n- no item\n  more\n```\n", "```\ntext\n- no item\n  more\n```\n"),
    ],
)
def test_lists_are_moved_to_where_zensical_sees_them(written: str, read: str) -> None:
    """A list that is no list to zensical becomes one paragraph, and its code prose."""
    assert as_zensical_reads_it(written) == read


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("[a](other.md) [b](other.md#twice-1) [c](other.md#own) [d](#a-code--word)", []),
        ("[a](gone.md)", ["gone.md"]),
        ("![a](gone.png)", ["gone.png"]),
        ("[a][ref]\n\n[ref]: gone.md", ["gone.md"]),
        ('<a href="gone.md">a</a>', ["gone.md"]),
        ("[a](other.md#none)", ["other.md#none"]),
        ("[a](#twice)", ["#twice"]),
        ("[a](picture.png#x)", ["picture.png#x"]),
        ("`[a](gone.md)` https://example.org [x](https://example.org/gone)", []),
        ("    [a](gone.md)", []),
    ],
)
def test_dead_links_of_markdown_are_found(tmp_path: Path, text: str, dead: list[str]) -> None:
    """As a code host reads the document: its links by reference and in HTML too, its anchors as made there."""
    (tmp_path / "picture.png").touch()
    other = '# Twice\n## Twice\n<a id="own"></a>\n'
    (tmp_path / "other.md").write_text(other, encoding="utf-8")
    document = tmp_path / "page.md"
    document.write_text(f"# A `code` — word\n\n{text}\n", encoding="utf-8")
    assert check_links.dead_in_markdown(document) == dead


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ('<a href="sub/">a</a> <a href="/index.html#top">b</a> <a href="?q=1#top">c</a>', None),
        ('<a href="https://example.org">a</a> <img src="data:image/png;base64,xx">', None),
        ('<a href="gone.html">a</a>', "dead link: gone.html"),
        ('<a href="../outside.html">a</a>', "dead link: ../outside.html"),
        ('<a href="#gone">a</a>', "no such anchor: index.html#gone"),
        ('<a href="sub/index.html#gone">a</a>', "no such anchor: sub/index.html#gone"),
        ('<img src="gone.png">', "dead link: gone.png"),
        (SCRIPT_ELSEWHERE, "loads from elsewhere: https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "loads from elsewhere: //cdn.example/x.css"),
        ('<img srcset="https://cdn.example/x.png 2x">', "loads from elsewhere: https://cdn.example/x.png"),
        ('<p style="background: url(https://cdn.example/x)">', "loads from elsewhere: https://cdn.example/x"),
    ],
)
def test_what_is_wrong_in_a_built_site_is_found(tmp_path: Path, body: str, wrong: str | None) -> None:
    """A page that loads from another host tells that host who reads; one that leads nowhere costs the reader the way."""
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (tmp_path / "outside.html").touch()
    (site / "sub/index.html").touch()
    (site / "index.html").write_text(f'<h1 id="top">x</h1>{body}', encoding="utf-8")
    assert check_links.dead_in_site(site) == ([f"{wrong} (pages: 1, first index.html)"] if wrong else [])


def test_a_style_that_loads_a_font_from_elsewhere_is_found(tmp_path: Path) -> None:
    """Styles load too."""
    (tmp_path / "x.css").write_text(
        "@import 'https://fonts.example/a'; b { src: url(b.woff) }", encoding="utf-8"
    )
    assert len(check_links.dead_in_site(tmp_path)) == 1


def test_a_folder_without_a_site_is_no_good_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A build that wrote elsewhere must not pass for one without dead links."""
    assert check_links.main(["--site", str(tmp_path)]) == 1
    assert "no site is there" in capsys.readouterr().err


@pytest.mark.parametrize("proto", PROTOS, ids=lambda proto: str(proto.name))
def test_reference_has_everything_that_the_stubs_have(proto: FileDescriptor) -> None:
    """What callers can call must be told; the stubs say what that is."""
    for service in proto.services_by_name.values():
        for method in service.methods:
            assert f"### {method.name}\n`/{service.full_name}/{method.name}`" in API
    for message in proto.message_types_by_name.values():
        section = API.partition(f"### {message.name}\n")[2].partition("\n### ")[0]
        for field in message.fields:
            assert f"| `{field.name}` = {field.number} |" in section
    for enum in proto.enum_types_by_name.values():
        for value in enum.values:
            assert f"`{value.name}` = {value.number}" in API.partition(f"### {enum.name}\n")[2]


def test_reference_links_the_errors_of_a_method() -> None:
    """From a call to what to do about its failures in one step."""
    section = API.partition("### GetToken\n")[2].partition("\n### ")[0]
    assert "[REAUTHORIZATION_REQUIRED](#reauthorization_required)" in section
    assert "#### REAUTHORIZATION_REQUIRED\n" in API
