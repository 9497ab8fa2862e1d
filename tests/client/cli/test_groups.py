"""Groups of values that are alike as text, or to Python, and are not the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli.scored import answer, bce, refused, run

SITES: list[Any] = [1, "1", True, 1, "1", True, False, 0, None, 1.0]
X = np.linspace(-3, 3, len(SITES))
Y = np.arange(len(SITES)) % 3 == 0
GROUPS: list[tuple[Any, list[int]]] = [  # in order, with their rows
    (0, [7]),
    (1, [0, 3, 9]),
    (False, [6]),
    (True, [2, 5]),
    ("1", [1, 4]),
    (None, [8]),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = zip(X.tolist(), Y.astype(int).tolist(), SITES, strict=True)
    lines = [json.dumps({"logits": x, "targets": y, "site": site, "day": "a"}) for x, y, site in rows]
    Path("t.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("by", [["site"], ["day", "site"]])
def test_values_that_only_look_alike_are_groups_of_their_own(base_url: str, by: list[str]) -> None:
    options = [part for name in by for part in ("--by", name)]
    groups = answer(base_url, "t.jsonl", *options)["groups"]
    keys = [group["group"][-1] if len(by) > 1 else group["group"] for group in groups]
    assert [(type(key) is bool, key) for key in keys] == [(type(key) is bool, key) for key, _ in GROUPS]
    for group, (_, rows) in zip(groups, GROUPS, strict=True):
        assert group["count"] == len(rows)
        assert group["loss"] == pytest.approx(bce(X[rows], Y[rows]).mean(), rel=1e-14)


def test_text_is_shown_in_quotes_beside_numbers(base_url: str) -> None:
    done = run(base_url, "t.jsonl", "--by", "day", "--by", "site", "--out", "t.csv")
    assert (done.exit_code, done.stderr) == (0, "")
    shown = [line.split()[:2] for line in done.stdout.splitlines()[1:7]]
    expected = ["0", "1", "False", "True", '"1"', "(none)"]
    assert shown == [["a", text] for text in expected]
    with Path("t.csv").open() as file:
        written = [row[:2] for row in csv.reader(file)][1:]
    assert written == [["a", text] for text in [*expected[:-1], ""]]


def test_a_file_of_groups_has_one_column(base_url: str) -> None:
    Path("s.csv").write_text("\n".join(["id,site", *(f"{row},a" for row in range(len(X)))]))
    error = refused(base_url, "t.jsonl", "--by", "s.csv")
    assert "a file for --by has one column; keep the one that is meant, or put it into the table" in error
    np.savez("w.npz", a=X, b=Y)
    error = refused(base_url, "t.jsonl", "--pos-weight", "w.npz")
    assert "a file for --pos-weight has one column, or one that is called pos_weight" in error
