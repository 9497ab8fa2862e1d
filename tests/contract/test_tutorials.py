"""docs/tutorials/: each lesson prints what it shows, and its pictures are those that it draws."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from pages import ROOT
from scripts.report_page import PICTURES, pictures, run

FOLDER = ROOT / "docs/tutorials"
LESSONS = sorted(FOLDER.glob("*-*.md"))
SHOWN = re.compile(
    r'!\[[^\]]+\]\((pictures/\S+)\)|<img src="(pictures/\S+)" width="\d+" height="\d+" alt="[^"]+">'
)
MAX_BYTES = {".png": 150_000, ".svg": 30_000}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def flush(text: str) -> str:
    """A text without the indentation of its lines."""
    return re.sub(r"^ +", "", text, flags=re.MULTILINE)


@dataclass(frozen=True)
class Lesson:
    """A lesson that was run in a folder: what its blocks show, and what they printed."""

    page: Path
    folder: Path
    printed: list[tuple[str, str]]


@pytest.fixture(scope="module", params=LESSONS, ids=lambda page: page.stem)
def lesson(request: pytest.FixtureRequest, base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("lesson")
    return Lesson(request.param, folder, list(run(base_url, folder, request.param)))


def test_a_lesson_prints_what_it_shows(lesson: Lesson) -> None:
    assert len(lesson.printed) > 5
    assert [
        (shown, printed)
        for shown, printed in lesson.printed
        if not fnmatchcase(printed, shown.replace("[", "[[]").replace("…", "*"))
    ] == []


def test_its_pictures_are_those_that_it_draws(lesson: Lesson) -> None:
    drawn = pictures(lesson.folder, lesson.page) if lesson.page in PICTURES else {}
    shown = {Path(found).name for pair in SHOWN.findall(lesson.page.read_text()) for found in pair if found}
    assert drawn.keys() == {name for name in shown if name.endswith(".svg")}
    stale = [name for name, text in drawn.items() if (FOLDER / "pictures" / name).read_text() != text]
    assert stale == [], "run `make pictures`"


def test_every_picture_is_shown_and_small() -> None:
    text = "".join(page.read_text() for page in LESSONS)
    shown = sorted(found for pair in SHOWN.findall(text) for found in pair if found)
    assert len(shown) == text.count("![") + text.count("<img ")
    files = sorted((FOLDER / "pictures").iterdir())
    assert [f"pictures/{file.name}" for file in files] == shown
    assert all(file.stat().st_size <= MAX_BYTES[file.suffix] for file in files)


def test_photographs_are_as_wide_as_a_screen() -> None:
    photographs = sorted((FOLDER / "pictures").glob("*.png"))
    assert 0 < len(photographs) <= 3
    for file in photographs:
        head = file.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", head[16:20]) == (1440,)


def test_workflows_are_the_examples_in_deploy() -> None:
    [github, gitlab] = blocks((FOLDER / "gate-a-model-in-ci.md").read_text(), "yaml")
    for shown, example in ((github, "github-action/example.yml"), (gitlab, "gitlab/example.gitlab-ci.yml")):
        _, _, whole = (ROOT / "deploy" / example).read_text().partition("\n")  # without the comment on top
        assert shown == whole


def test_what_is_not_run_is_how_to_begin() -> None:
    text = "".join(page.read_text() for page in LESSONS)
    assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) == {"python", "console", "sh", "yaml"}
    assert [block.splitlines() for block in blocks(text, "sh")] == [
        ["make serve"],
        ["source .venv/bin/activate", "mkdir lesson", "cd lesson"],
    ]


def test_the_lessons_are_short_and_lead_on() -> None:
    texts = {page.name: page.read_text() for page in LESSONS}
    assert len(texts) == 5
    assert sum(len(text.split()) for text in texts.values()) <= 3500
    for text in texts.values():
        _, _, end = text.partition("\n## What you have done\n")
        assert {"../how-to", "../reference", "../explanations"} <= {
            link.rpartition("/")[0] for link in re.findall(r"\]\(([^)#]+)", end)
        }
