"""The pages for developers: folders and files that they name exist, and the pages stay short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import ROOT, headings
from scripts.reference_tables import stale

PACKAGES = {"lossd": ROOT / "service/lossd", "lossd_client": ROOT / "client/lossd_client"}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PATH = re.compile(r"`([\w./-]+/[\w./-]*)`")
MAX_WORDS = 31_400
MAX_WORDS_OF_TUTORIALS = 3_500
GENERATED = re.compile(r"<!-- (?!end ).+? -->\n.*?<!-- end -->", re.DOTALL)


def named(page: str) -> set[str]:
    """Return the folders in the page's picture of the rooms, relative to the repository."""
    [picture] = re.findall(r"## Rooms\n.*?```\n(.*?)```", page, flags=re.DOTALL)
    found: set[str] = set()
    above: list[str] = []
    for line in picture.splitlines():
        indent, folder = len(line) - len(line.lstrip()), line.split()[0]
        above[indent // 2 :] = [folder.rstrip("/")]
        found.add("/".join(above))
    return found


def folders() -> set[str]:
    """Return the packages' folders that hold code, relative to the repository."""
    return {str(file.parent.relative_to(ROOT)) for top in PACKAGES.values() for file in top.rglob("*.py")}


def test_the_rooms_are_those_of_the_tree() -> None:
    assert named((ROOT / "docs/explanations/architecture.md").read_text()) == folders()


def paths(page: Path) -> Iterator[str]:
    """Yield the paths that a page names as code, relative to the root, to a package or to the tests."""
    for path in PATH.findall(page.read_text()):
        if path.split("/")[0] in TOPS:
            yield path


TOPS = {*PACKAGES, "api", "wire", "engine", "core", "cli"}
TOPS |= {"tests", "contract", "faults", "fuzz", "packaging"}
TOPS |= {"docs", "deploy", "scripts", "bench", "examples"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_lead_somewhere(page: Path) -> None:
    for path in paths(page):
        top, _, rest = path.partition("/")
        places = [ROOT / path, PACKAGES["lossd"] / path, ROOT / "tests" / path]
        places += [PACKAGES[top] / rest] if top in PACKAGES else []
        assert any(place.exists() or any(place.parent.glob(place.name)) for place in places), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http:", "https:", "/")):
            continue
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        assert there.is_file(), link
        assert not anchor or anchor in headings(there.read_text()), link


@pytest.mark.parametrize(("tutorials", "most"), [(False, MAX_WORDS), (True, MAX_WORDS_OF_TUTORIALS)])
def test_the_pages_are_short(tutorials: bool, most: int) -> None:
    folder = ROOT / "docs/tutorials"
    pages = [
        page for page in PAGES if ROOT / "docs" in page.parents and (folder in page.parents) is tutorials
    ]
    assert sum(len(GENERATED.sub("", page.read_text()).split()) for page in pages) <= most


def test_the_reference_tables_are_those_of_the_code() -> None:
    assert stale() == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/explanations/decisions"
    listed = set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {page.name for page in folder.glob("[0-9]*.md")}
