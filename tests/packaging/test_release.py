"""A version is written into every place that names it, and a release without its changes is refused."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from lossd import __version__
from pages import ROOT
from scripts.release import CHANGES, SOURCE, ReleaseError, current, places, write, wrong

NEW = "7.8.10"
DAY = date(2031, 2, 3)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that name the version, apart."""
    for path in [*places(ROOT), ROOT / CHANGES]:
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / path.relative_to(ROOT))
    changes = tmp_path / CHANGES
    _, _, older = changes.read_text().partition("## 0.1.0\n")
    changes.write_text(f"# Changelog\n\n## Unreleased\n\n- Something.\n\n## 0.1.0\n{older}")
    return tmp_path


def test_every_place_names_the_version_of_the_code() -> None:
    assert current(ROOT) == __version__
    assert wrong(ROOT) == []


def test_a_version_is_written_everywhere_and_can_be_released(checkout: Path) -> None:
    before = {path: path.read_text().count(__version__) for path in places(checkout)}
    write(checkout, NEW, DAY)
    assert wrong(checkout, f"v{NEW}") == []
    assert {path: path.read_text().count(NEW) for path in before} == before
    assert sum(before.values()) >= 15
    assert not any(__version__ in path.read_text() for path in before)
    assert f"\n## {NEW} (2031-02-03)\n\n- Something." in (checkout / CHANGES).read_text()


@pytest.mark.parametrize(
    "name", ["deploy/chart/Chart.yaml", "deploy/github-action/action.yml", "docs/how-to/gating.md"]
)
def test_a_place_with_another_version_is_named(checkout: Path, name: str) -> None:
    (checkout / name).write_text((checkout / name).read_text().replace(__version__, "0.0.1"))
    assert set(wrong(checkout)) == {f"{name} names 0.0.1, not {__version__}"}


def test_a_new_kind_of_place_is_noticed(checkout: Path) -> None:
    with (checkout / "docs/reference/api.md").open("a") as page:
        page.write(f"\nThis page is of lossd {__version__}.\n")
    [found] = wrong(checkout)
    assert found.startswith(f"docs/reference/api.md names {__version__} in a form that")


def test_a_release_needs_its_tag_and_its_dated_changes(checkout: Path) -> None:
    unready = wrong(checkout, "v7.8.9")
    assert [line.partition(":")[0] for line in unready] == [
        f"the tag is v7.8.9, and {SOURCE} has {__version__}",
        "CHANGELOG.md has no heading such as",
        "CHANGELOG.md has changes under Unreleased, which the release would have",
    ]
    write(checkout, NEW, DAY)
    changes = checkout / CHANGES
    changes.write_text(changes.read_text().replace("- Something.\n", ""))
    assert wrong(checkout, f"v{NEW}") == [f"CHANGELOG.md says nothing of {NEW}"]


def test_what_is_no_version_or_has_no_changes_is_refused(checkout: Path) -> None:
    with pytest.raises(ReleaseError, match=r"'v1\.2' is no version; write it as 1\.2\.3"):
        write(checkout, "v1.2", DAY)
    write(checkout, NEW, DAY)
    with pytest.raises(ReleaseError, match="no changes under Unreleased"):
        write(checkout, "7.9.0", DAY)
    assert current(checkout) == NEW
