"""The documents say what the code does, and their links lead somewhere."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from broker.api.errors import describe
from broker.config.reading import OTHER_VARIABLES
from broker.domain import errors
from docs import generate

ROOT = generate.ROOT
MADE_BY_MACHINES = {"build", "dist", "node_modules"}
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
SOON = timedelta(seconds=1)
TOLD = [
    errors.InvalidField("field", "is wrong"),
    errors.SignatureRefused(),
    errors.CallerNotAllowed(),
    errors.InstallNotFound(),
    errors.ReauthorizationRequired(),
    errors.ClientCredentialsRefused(),
    errors.ProviderUnavailable("", SOON),
    errors.StoreUnavailable("", SOON),
    errors.Overloaded("", SOON),
    errors.ShuttingDown("", SOON),
    errors.SealBroken(),
]


def _documents() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.md")) if _is_ours(path.relative_to(ROOT).parts)]


def _is_ours(parts: tuple[str, ...]) -> bool:
    return not any(part.startswith(".") or part in MADE_BY_MACHINES for part in parts)


def _prose(path: Path) -> str:
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def _anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = HEADING.findall(_prose(path))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _leads_somewhere(document: Path, link: str) -> bool:
    place, _, anchor = link.partition("#")
    target = document.parent / place if place else document
    return target.exists() and (not anchor or anchor in _anchors(target))


def test_generated_parts_are_as_the_code_has_them() -> None:
    """A table that drifted misleads whoever configures or calls the broker."""
    assert list(generate.drifted()) == []


def test_check_names_the_document_that_drifted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who broke the check must learn where."""
    monkeypatch.setattr(generate, "PARTS", {"docs/settings.md": {"settings": lambda: "another table"}})
    assert generate.main(["--check"]) == 1
    assert "docs/settings.md" in capsys.readouterr().err


@pytest.mark.parametrize("error", TOLD, ids=lambda error: type(error).__name__)
def test_table_of_errors_agrees_with_what_the_api_sends(error: errors.BrokerError) -> None:
    """The proto's comments are what callers program against."""
    described = describe(error)
    reason = next(
        reason
        for reason in generate.read_reasons(generate.REASONS_PROTO.read_text(encoding="utf-8"))
        if reason.number == described.reason
    )
    assert reason.code == described.code.name
    assert reason.retry == (described.retry_after is not None)


def test_every_variable_with_our_prefix_is_documented() -> None:
    """A variable that is no setting has no line in the generated table."""
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert [name for name in sorted(OTHER_VARIABLES) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """A dead link costs a newcomer the way."""
    links = [link for link in LINK.findall(_prose(document)) if "://" not in link]
    assert [link for link in links if not _leads_somewhere(document, link)] == []
