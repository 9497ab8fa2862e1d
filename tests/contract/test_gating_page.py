"""docs/how-to/gating.md: its examples print what it shows, and its workflows are the examples in deploy/."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest

from pages import ROOT
from scripts.report_page import run

PAGE = ROOT / "docs/how-to/gating.md"
TEXT = PAGE.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def flush(text: str) -> str:
    """A text without the indentation of its lines."""
    return re.sub(r"^ +", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def printed(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """What each example shows, and what it printed."""
    folder = tmp_path_factory.mktemp("page")
    [code] = [code for code in blocks("python") if "def test_" in code]
    (folder / "test_model.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTEST_PLUGINS", "pytest_lossd"
        )  # where lossd is not installed anew, its entry point is missing
        patch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
        return list(run(base_url, folder, PAGE))


def test_the_examples_print_what_the_page_shows(printed: list[tuple[str, str]]) -> None:
    assert len(printed) > 5
    wrong = [
        pair for pair in printed if not fnmatchcase(pair[1], pair[0].replace("[", "[[]").replace("…", "*"))
    ]
    assert wrong == []


@pytest.mark.parametrize("example", ["github-action/example.yml", "gitlab/example.gitlab-ci.yml"])
def test_the_gates_are_parts_of_the_examples(example: str) -> None:
    whole = flush((ROOT / "deploy" / example).read_text())
    [shown] = [block for block in blocks("yaml") if example.split("/")[0] in block]
    assert all(part in whole for part in flush(shown).strip().split("\n\n"))


def test_the_page_is_short() -> None:
    assert len(TEXT.split()) <= 900
