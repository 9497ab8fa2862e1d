"""What messages and pages tell people to install can be installed, and has what they lack."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pages import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
LISTS = [PYPROJECT["project"]["dependencies"], *EXTRAS.values(), *PYPROJECT["dependency-groups"].values()]
KNOWN = {Requirement(line).name for lines in LISTS for line in lines}
# The text of a program is read without the ends of its strings' lines.
JOINED = re.compile(r'"\n\s*f?"')
EXTRA = re.compile(r"\blossd\[([\w,]+)\]")
INSTALL = re.compile(r"\bpip install (?:--\S* |-\w )*'?(\w[\w./-]*)")
NEEDS = re.compile(r"\bneeds? ([\w.-]+)(?: \([^)]*\))?: pip install 'lossd\[([\w,]+)\]'")
CALL = re.compile(r'\bneeds\(\s*f?"[^"]*",\s*"([\w,]+)"\)')
SPOKEN = {"OpenTelemetry": "opentelemetry-sdk", "Ray": "ray", "redis-py": "redis"}


def texts() -> Iterator[tuple[Path, str]]:
    for folder in ("client", "service", "docs", "deploy", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".yml", ".yaml", ".service"}:
                yield path.relative_to(ROOT), JOINED.sub("", path.read_text())
    yield Path("README.md"), (ROOT / "README.md").read_text()


TEXTS = dict(texts())


def brings(extras: str) -> set[str]:
    """The packages that extras name, theirs in turn included."""
    found = set()
    for line in [line for extra in extras.split(",") for line in EXTRAS[extra]]:
        one = Requirement(line)
        found |= brings(",".join(one.extras)) if one.name == "lossd" else {one.name}
    return found


def test_the_extras_that_are_named_exist() -> None:
    named = {
        (path, extra)
        for path, text in TEXTS.items()
        for names in EXTRA.findall(text)
        for extra in names.split(",")
    }
    named |= {
        (path, extra)
        for path, text in TEXTS.items()
        for names in CALL.findall(text)
        for extra in names.split(",")
    }
    assert len({path for path, _ in named}) > 15
    assert {extra for _, extra in named} > {"cpu", "server", "local", "files", "ray"}
    assert sorted((str(path), extra) for path, extra in named if extra not in EXTRAS) == []


def test_an_extra_has_what_is_said_to_be_needed() -> None:
    said = [(str(path), *found) for path, text in TEXTS.items() for found in NEEDS.findall(text)]
    assert len(said) >= 6
    assert [one for one in said if SPOKEN.get(one[1], one[1]) not in brings(one[2])] == []


def test_other_packages_that_are_named_are_ones_that_are_tested_with() -> None:
    named = {(str(path), name) for path, text in TEXTS.items() for name in INSTALL.findall(text)}
    others = {
        (path, name) for path, name in named if name != "lossd" and not name.startswith("path/to/lossd")
    }
    assert {name for _, name in others} >= {"torch", "httpx"}
    assert sorted(one for one in others if one[1] not in KNOWN) == []


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_every_extra_is_in_the_pages(extra: str) -> None:
    pages = [text for path, text in TEXTS.items() if path.suffix == ".md"]
    assert any(f"[{extra}]" in text for text in pages)
