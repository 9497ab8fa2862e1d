"""The way of a request stays short."""

from __future__ import annotations

from scripts.request_way import MOST_FILES, count, files_entered


def test_a_request_enters_few_files() -> None:
    for way, most in MOST_FILES.items():
        found = files_entered(way)
        assert count(found) <= most, f"{way}: {found}"
        assert "wire/answer.py" in set().union(*found.values())
