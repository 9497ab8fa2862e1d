"""docs/how-to/reports.md: its examples print what it shows, and its pictures are those that they draw."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from scripts.report_page import REPORTS, pictures, run

TEXT = REPORTS.read_text()
FOLDER = REPORTS.parent / "pictures"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page's examples run."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def printed(base_url: str, folder: Path) -> list[tuple[str, str]]:
    """What each example shows, and what it printed."""
    return list(run(base_url, folder, REPORTS))


def test_the_examples_print_what_the_page_shows(printed: list[tuple[str, str]]) -> None:
    assert len(printed) > 10
    wrong = [
        pair for pair in printed if not fnmatchcase(pair[1], pair[0].replace("[", "[[]").replace("…", "*"))
    ]
    assert wrong == []


def test_the_pictures_are_those_that_the_examples_draw(folder: Path, printed: list[tuple[str, str]]) -> None:
    assert printed
    drawn = pictures(folder, REPORTS)
    assert drawn.keys() == {file.name for file in FOLDER.iterdir()}
    stale = [file for file, text in drawn.items() if (FOLDER / file).read_text() != text]
    assert stale == [], "run `make pictures`"


def test_the_page_shows_every_picture_in_its_size() -> None:
    shown = re.findall(r'<img src="pictures/(\S+)" width="(\d+)" height="(\d+)" alt="[^"]+">', TEXT)
    assert TEXT.count("<img ") == len(shown)
    found = []
    for file in FOLDER.iterdir():
        text = file.read_text()
        assert len(text) < 30_000
        assert text.startswith("<svg ")
        [(width, height)] = re.findall(r'^<svg [^>]* width="(\d+)" height="(\d+)"', text)
        found.append((file.name, width, height))
    assert sorted(found) == sorted(shown)
