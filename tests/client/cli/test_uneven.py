"""Shards with arrays of different numbers of rows, whose sums over all shards fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli import reported
from client.cli.scored import refused
from lossd_client.cli.inputs import blocks

ROWS = 12
random = np.random.default_rng(8)
X = random.normal(size=(ROWS, 3))
ARRAYS: dict[str, Any] = {
    "logits": X,
    "targets": random.random((ROWS, 3)) < 0.4,
    "w": random.random((ROWS, 1)),
    "m": random.random((ROWS, 3)) < 0.7,
    "g": np.arange(ROWS),
    "b": X / 2,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of their own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=[8 << 20, 200], ids=["one request", "many blocks"], autouse=True)
def in_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", request.param)


def save(short: str, *, moved: bool) -> str:
    """Save two shards, the first with a row less of an array, and return what is wrong.

    Args:
        short: The array.
        moved: Whether the second shard has that row.
    """
    for place, rows in enumerate((slice(0, 6), slice(6, 12))):
        own = {name: ARRAYS[name][rows] for name in ("logits", "targets", short)}
        own[short] = ARRAYS[short][6 - moved :] if place else ARRAYS[short][:5]
        np.savez(f"s-{place}.npz", **own)
    counts = "5 rows, and targets 6" if short == "logits" else f"6 rows, and {short} 5"
    return f"s-0.npz: logits has {counts}: save both with the same rows"


@pytest.mark.parametrize("moved", [True, False], ids=["all rows together", "a row less"])
@pytest.mark.parametrize(
    ("short", "args"),
    [
        ("targets", []),
        ("logits", []),
        ("w", ["--weight-column", "w"]),
        ("m", ["--mask-column", "m"]),
        ("g", ["--by", "g"]),
    ],
)
def test_a_score_takes_no_row_from_the_next_shard(
    base_url: str, short: str, args: list[str], moved: bool
) -> None:
    assert save(short, moved=moved) in refused(base_url, "s-0.npz", "s-1.npz", *args)


@pytest.mark.parametrize(
    ("short", "args"),
    [("targets", []), ("g", ["--by", "g"]), ("g", ["--ids", "g"]), ("b", ["--baseline", "b"])],
)
def test_a_report_takes_no_row_from_the_next_shard(base_url: str, short: str, args: list[str]) -> None:
    assert save(short, moved=True) in reported.refused(base_url, "s-0.npz", "s-1.npz", *args)


def test_columns_of_classes_have_the_same_rows(base_url: str) -> None:
    np.savez("s.npz", x_0=X[:, 0], x_1=X[:5, 1], y_0=np.ones(ROWS), y_1=np.ones(ROWS))
    message = refused(base_url, "s.npz", "--logits-columns", "x_", "--targets-columns", "y_")
    assert "s.npz: x_0 has 12 rows, and x_1 5:" in message


def test_a_single_number_has_no_rows(base_url: str) -> None:
    np.save("x.npy", X[:, 0])
    np.save("one.npy", np.float64(1))
    assert "one.npy: its array is a single number, and has no rows" in refused(base_url, "x.npy", "one.npy")
