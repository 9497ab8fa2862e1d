"""The version of a release: written into every place that names it, and checked before anything is published.

`service/lossd/__init__.py` has the version, from which the package's metadata follows. The chart, examples
and pages repeat it:

    python -m scripts.release version 1.2.3    write it everywhere, and date the changes in CHANGELOG.md
    python -m scripts.release check [v1.2.3]   fail if a place disagrees; with a tag, if that is not ready
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = "service/lossd/__init__.py"
CHANGES: Final = "CHANGELOG.md"
PLACES: Final = (SOURCE, "README.md", "docs/**/*.md", "deploy/**/*", "clients/*/package*.json")
_VERSION: Final = r"\d+\.\d+\.\d+"  # of a pre-release, Python, Helm and npm write different forms
# What stands before the version: an image, a requirement, a tag of this repository, a field of a document.
_BEFORE: Final = (
    *(r'^__version__ = "', r"\blossd(?:-ray)?:", r"\blossd(?:\[[\w,]+\])?==", r"lossd/[\w/-]*@v"),
    *(
        r"lossd/-/raw/v",
        r'(?:\{|, )"version": "',
        r'"name": "lossd[\w-]*",\n +"version": "',
        r"^(?:appVersion|version): ",
        r"\bnewTag: ",
    ),
)
_NAMED: Final = re.compile(rf"({'|'.join(_BEFORE)})({_VERSION})(?![\w.]*\w)", re.MULTILINE)
_SECTION: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_UNRELEASED: Final = "## Unreleased\n"


class ReleaseError(Exception):
    """What is named cannot be released, or is no version."""


def places(root: Path) -> Iterator[Path]:
    """Yield the files that may name the version."""
    for pattern in PLACES:
        yield from (path for path in sorted(root.glob(pattern)) if path.is_file() and not path.is_symlink())


def current(root: Path) -> str:
    """Return the version that the code has."""
    found = _NAMED.search((root / SOURCE).read_text())
    if found is None:
        msg = f"{SOURCE} has no __version__"
        raise ReleaseError(msg)
    return found[2]


def write(root: Path, version: str, today: date) -> None:
    """Write a version into every place, and give the changes that were not released its heading."""
    if not re.fullmatch(_VERSION, version):
        msg = f"{version!r} is no version; write it as 1.2.3"
        raise ReleaseError(msg)
    changes = root / CHANGES
    text = changes.read_text()
    if not _section(text, "Unreleased"):
        msg = f"{CHANGES} has no changes under Unreleased"
        raise ReleaseError(msg)
    changes.write_text(text.replace(_UNRELEASED, f"## {version} ({today:%Y-%m-%d})\n", 1))
    for path in places(root):
        path.write_text(_NAMED.sub(rf"\g<1>{version}", path.read_text()))


def wrong(root: Path, tag: str = "") -> list[str]:
    """Return what is wrong with the places, and if a tag is given with a release of it.

    Args:
        root: The checkout.
        tag: Such as ``v1.2.3``.
    """
    version = current(root)
    found = []
    for path in places(root):
        text, name = path.read_text(), path.relative_to(root)
        found += [
            f"{name} names {other[2]}, not {version}"
            for other in _NAMED.finditer(text)
            if other[2] != version
        ]
        unknown = len(re.findall(rf"(?<![\w.]){re.escape(version)}(?![\w.]*\w)", _NAMED.sub("", text)))
        if unknown:
            found.append(f"{name} names {version} in a form that scripts/release.py does not write")
    return found + (_unready(root, version, tag) if tag else [])


def _unready(root: Path, version: str, tag: str) -> list[str]:
    found = []
    if tag != f"v{version}":
        found.append(
            f"the tag is {tag}, and {SOURCE} has {version}: make version VERSION={tag.removeprefix('v')}"
        )
    text = (root / CHANGES).read_text()
    dated = re.search(rf"^## ({re.escape(version)} \(\d{{4}}-\d\d-\d\d\))$", text, re.MULTILINE)
    if dated is None:
        found.append(f"{CHANGES} has no heading such as: ## {version} (2030-12-31)")
    elif not _section(text, dated[1]):
        found.append(f"{CHANGES} says nothing of {version}")
    if _section(text, "Unreleased"):
        found.append(f"{CHANGES} has changes under Unreleased, which the release would have")
    return found


def _section(text: str, heading: str) -> str:
    """Return what stands below a heading of the second level; empty if there is no such."""
    parts = _SECTION.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(heading, "").strip()


def main(arguments: list[str]) -> int:
    """Do what the arguments say; return the exit code."""
    match arguments:
        case ["version", version]:
            try:
                write(ROOT, version, datetime.now(UTC).date())
            except ReleaseError as error:
                print(error, file=sys.stderr)
                return 1
            return 0
        case ["check", *tags] if len(tags) <= 1:
            found = wrong(ROOT, *tags)
            print("\n".join(found), file=sys.stderr, end="\n" if found else "")
            return bool(found)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
